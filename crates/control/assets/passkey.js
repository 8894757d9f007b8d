// Between two forms: asks the browser for a passkey, or to make one, and fills in its answer. Nothing else is sent anywhere.
"use strict";

const form = document.getElementById("passkey");
const trouble = document.getElementById("trouble");

function bytes(text) {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
}

function text(buffer) {
  const plain = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(plain).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function withBytes(options) {
  const known = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));
  const read = { ...options, challenge: bytes(options.challenge) };
  if (options.user) read.user = { ...options.user, id: bytes(options.user.id) };
  if (options.excludeCredentials) read.excludeCredentials = known(options.excludeCredentials);
  if (options.allowCredentials) read.allowCredentials = known(options.allowCredentials);
  return read;
}

function withText(made) {
  const response = {};
  for (const name of ["attestationObject", "authenticatorData", "clientDataJSON", "signature", "userHandle"]) {
    if (made.response[name]) response[name] = text(made.response[name]);
  }
  return { id: made.id, rawId: text(made.rawId), type: made.type, response, extensions: {} };
}

async function ask() {
  trouble.hidden = true;
  try {
    const publicKey = withBytes(JSON.parse(form.dataset.options));
    const made = form.dataset.makes === "true"
      ? await navigator.credentials.create({ publicKey })
      : await navigator.credentials.get({ publicKey });
    form.elements.answer.value = JSON.stringify(withText(made));
    form.submit();
  } catch (error) {
    trouble.textContent = `The browser gave no passkey (${error.name}). Try again, or go back.`;
    trouble.hidden = false;
  }
}

form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
ask();
