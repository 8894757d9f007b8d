// The console's live parts: what changes on a page, a job's log, an upload, the playground. Everything else works without it.
// Content (logs, datasets, questions, answers) goes between the browser and the site, with a short-lived grant; text from
// anywhere only ever becomes text, never markup.
"use strict";

const $ = (id) => document.getElementById(id);
const csrf = document.body.dataset.csrf;
const LOG_CHARS_MAX = 400000;
const POLL_MS = 2000;
document.documentElement.classList.add("js");

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// What went wrong, in the words of whoever refused: problem details or an OpenAI error.
async function refusal(answer) {
  let said;
  try { said = await answer.json(); } catch { said = {}; }
  const words = said.detail || (said.error && said.error.message) || `it answered ${answer.status}`;
  const error = new Error(said.hint ? `${words} (${said.hint})` : words);
  error.status = answer.status;
  return error;
}

// Sends a form to the console and reads its answer.
async function post(path, fields) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { accept: "application/json" },
    body: new URLSearchParams({ csrf, ...fields }),
  });
  if (answer.status === 401) location.assign("/console/sign-in");
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

// --- What changes -------------------------------------------------------------------------------------------------

const live = $("live");
const isSettled = () => !live || live.querySelector("[data-settled]")?.dataset.settled === "true";
let polling = false;

async function poll() {
  if (polling) return;
  polling = true;
  try {
    while (!isSettled()) {
      await pause(POLL_MS);
      // A form half filled in, or a page nobody sees, is left alone.
      if (document.hidden || live.querySelector("input:checked")) continue;
      try {
        const answer = await fetch(live.dataset.live, { headers: { accept: "application/json, text/html" } });
        if (answer.status === 401) return location.assign("/console/sign-in");
        if (!answer.ok) continue;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        live.replaceChildren(...page.body.childNodes);
      } catch { /* control is away for a moment: the next look will tell */ }
    }
  } finally { polling = false; }
}
if (live) poll();

// --- A job's log --------------------------------------------------------------------------------------------------

async function follow(log) {
  const status = $("log-status");
  let wait = POLL_MS;
  for (;;) {
    const last = isSettled();
    try {
      const { grant, url } = await post(log.dataset.grant, {});
      const answer = await fetch(`${url}/content/v1/jobs/${log.dataset.job}/logs?follow=true`, {
        headers: { authorization: `Bearer ${grant}` },
      });
      if (!answer.ok) throw await refusal(answer);
      status.textContent = `Read from ${url}.`;
      wait = POLL_MS;
      // A new reading begins at the beginning again.
      log.textContent = "";
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
        log.append(value);
        if (log.textContent.length > LOG_CHARS_MAX) log.textContent = log.textContent.slice(-LOG_CHARS_MAX / 2);
        if (atEnd) log.scrollTop = log.scrollHeight;
      }
      if (last || isSettled()) {
        if (!log.textContent) status.textContent = "The job wrote nothing.";
        return;
      }
    } catch (error) {
      status.textContent = error.status ? `No log: ${error.message}.` : "The site does not answer your browser; trying again.";
      if (last) return;
      wait = Math.min(wait * 1.5, 10000);
    }
    await pause(wait);
  }
}
if ($("log")) follow($("log"));

// --- Storing a dataset --------------------------------------------------------------------------------------------

function put(url, grant, file, onProgress) {
  return new Promise((done, failed) => {
    // fetch() cannot say yet how far an upload has come.
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    request.setRequestHeader("authorization", `Bearer ${grant}`);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("error", () => failed(new Error("the site does not answer your browser")));
    request.addEventListener("load", () => {
      let said = {};
      try { said = JSON.parse(request.responseText); } catch { /* words follow below */ }
      if (request.status < 300) done(said);
      else failed(new Error(said.detail || `the site answered ${request.status}`));
    });
    request.send(file);
  });
}

const upload = $("upload");
if (upload) {
  $("upload-file").addEventListener("change", () => {
    const file = $("upload-file").files[0];
    if (!file || $("upload-name").value) return;
    const name = file.name.toLowerCase().replace(/[^a-z0-9.-]+/g, "-").replace(/^[^a-z]+/, "");
    $("upload-name").value = name.slice(0, 63);
  });
  upload.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [file, status, bar, button] = [$("upload-file").files[0], $("upload-status"), $("upload-progress"), $("upload-start")];
    button.disabled = true;
    bar.hidden = false;
    try {
      status.textContent = "Announcing …";
      const made = await post(upload.dataset.announce, { name: $("upload-name").value, once: upload.dataset.once + $("upload-name").value });
      status.textContent = "Sending to the site …";
      const stored = await put(`${made.url}/content/v1/datasets/${made.dataset}`, made.grant, file, (sent, of) => {
        bar.value = of ? Math.floor((100 * sent) / of) : 0;
      });
      bar.value = 100;
      status.textContent = `Stored. SHA-256 ${stored.digest}`;
      upload.reset();
      // The list learns of it from the control plane, which learns of it from the site.
      const before = live.querySelector("[data-settled]");
      if (before) before.dataset.settled = "false";
      poll();
    } catch (error) {
      status.textContent = `Not stored: ${error.message}.`;
    } finally { button.disabled = false; }
  });
}

// --- Playground ---------------------------------------------------------------------------------------------------

const playground = $("playground");
if (playground) {
  const said = [];
  let leave = null;
  let stopping = null;

  const line = (kind) => {
    const box = document.createElement("div");
    box.className = kind;
    $("talk").append(box);
    return box;
  };

  const granted = async () => {
    if (!leave || Date.parse(leave.expires_at) < Date.now() + 30000) leave = await post(playground.dataset.grant, {});
    return leave;
  };

  async function ask(question) {
    const { grant, url } = await granted();
    said.push({ role: "user", content: question });
    line("question").textContent = question;
    const box = line("answer");
    stopping = new AbortController();
    let answered = "";
    try {
      const answer = await fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        signal: stopping.signal,
        headers: { authorization: `Bearer ${grant}`, "content-type": "application/json" },
        body: JSON.stringify({
          model: playground.dataset.model,
          messages: said,
          temperature: Number($("temperature").value),
          // Left out, the answer may be as long as the model's context allows.
          ...($("max-tokens").value && { max_tokens: Number($("max-tokens").value) }),
          stream: true,
          stream_options: { include_usage: true },
        }),
      });
      if (!answer.ok) throw await refusal(answer);
      for await (const part of events(answer.body)) {
        if (part.error) throw new Error(part.error.message);
        const text = part.choices?.[0]?.delta?.content;
        if (text) { answered += text; box.textContent = answered; }
        if (part.usage) $("talk-status").textContent = `${part.usage.prompt_tokens} tokens read, ${part.usage.completion_tokens} written`;
      }
    } finally {
      stopping = null;
      // What was not answered is not part of the conversation.
      if (answered) said.push({ role: "assistant", content: answered });
      else { said.pop(); box.remove(); }
    }
  }

  playground.addEventListener("submit", async (event) => {
    event.preventDefault();
    const question = $("question").value.trim();
    if (!question) return;
    $("ask").disabled = true;
    $("stop").disabled = false;
    $("talk-status").textContent = "Asking …";
    try {
      await ask(question);
      $("question").value = "";
      if ($("talk-status").textContent === "Asking …") $("talk-status").textContent = "";
    } catch (error) {
      $("talk-status").textContent = error.name === "AbortError" ? "Stopped; what was written is billed." : `No answer: ${error.message}.`;
    } finally {
      $("ask").disabled = false;
      $("stop").disabled = true;
    }
  });
  $("stop").addEventListener("click", () => stopping && stopping.abort());
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) playground.requestSubmit();
  });
}

// The events of a stream, each as what its data says.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      try { yield JSON.parse(data); } catch { throw new Error("the site sent something that is no event"); }
    }
  }
}
