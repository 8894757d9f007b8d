"""People sign in with a real OpenID provider (npm `oidc-provider`): in the console, and by it in the command line."""

import html
import http.cookiejar
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

from cloud import Cloud, run

FOLDER = sys.argv[1]
DEVICE = re.compile(r"(\S+/console/device\?code=\S+)")
LOOPBACK = re.compile(r"(\S+/console/cli\?\S+)")


class Browser:
    """Follows redirects and the console's onward pages, keeps cookies, fills in forms."""

    def __init__(self):
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def open(self, url, fields=None):
        request = urllib.request.Request(url)
        if fields is not None:
            request.data = urllib.parse.urlencode(fields).encode()
            parts = urllib.parse.urlsplit(url)
            request.add_header("origin", f"{parts.scheme}://{parts.netloc}")
        try:
            answer = self.opener.open(request, timeout=30)
        except urllib.error.HTTPError as refusal:
            answer = refusal
        self.status, self.url, self.text = answer.status, answer.url, answer.read().decode()
        onward = re.search(r'id="onward" href="([^"]*)"', self.text)
        return self.open(urllib.parse.urljoin(self.url, html.unescape(onward.group(1)))) if onward else self

    def submit(self, action, **fields):
        """Submits the form that leads to `action`, with what it hides."""
        for found in re.finditer(r"<form(.*?)</form>", self.text, re.S):
            form = found.group(1)
            target = html.unescape(re.search(r'action="([^"]*)"', form).group(1))
            if action not in target:
                continue
            hidden = [tag for tag in re.findall(r"<input[^>]*>", form) if 'type="hidden"' in tag]
            value = lambda tag, name: html.unescape(re.search(rf'{name}="([^"]*)"', tag).group(1))
            return self.open(urllib.parse.urljoin(self.url, target), {**{value(tag, "name"): value(tag, "value") for tag in hidden}, **fields})
        raise AssertionError(f"no form leads to {action}: {self.text}")

    def sign_in(self, cloud, name):
        self.open(cloud.url + "/console/sign-in").submit("/sign-in/begin")
        self.submit("/interaction/", login=name, password="x")
        return self.submit("/interaction/") if "/interaction/" in self.url else self


class Provider:
    def __init__(self):
        self.process = subprocess.Popen(
            ["node", "identity_provider.mjs"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.issuer = self.process.stdout.readline().strip()

    def allow(self, redirect):
        self.process.stdin.write(redirect + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "ready"


provider = Provider()
home = tempfile.TemporaryDirectory(prefix="gregal-home-")
config = os.path.join(home.name, "gregal.toml")
with open(config, "w") as file:
    file.write(
        f'[identity]\nprivate_providers = "yes_on_my_network"\n[[identity.provider]]\nname = "Example"\nissuer = "{provider.issuer}"\nclient_id = "gregal"\n'
    )

with Cloud("--config", config) as cloud:
    provider.allow(cloud.url + "/console/sign-in/callback")
    cloud.tenant()
    ada = Browser()
    place = f"/api/v1/organisations/{cloud.organisation}"
    environment = {"PATH": os.environ["PATH"], "HOME": home.name}

    def cli(*args):
        return subprocess.run([cloud.program, *args, "--url", cloud.url], env=environment, capture_output=True, text=True, timeout=60)

    def login(mark, allow, *flags):
        """Runs `gregal login` and, once it shows an address, lets somebody do something with it."""
        process = subprocess.Popen([cloud.program, "login", *flags, "--url", cloud.url], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        shown = ""
        while not (found := mark.search(shown)):
            line = process.stderr.readline()
            assert line, shown
            shown += line
        allow(found.group(1))
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def whoever_is_invited_signs_in_and_joins():
        made = cloud.call("POST", place + "/invitations", cloud.owner, {"email": "ada@example.eu", "role": "developer"})
        assert ada.sign_in(cloud, "ada").status == 200 and "/console/welcome" in ada.url, (ada.url, ada.text)
        ada.submit("/welcome/join", text=made["text"])
        assert ada.url == cloud.url + "/console" and "ada@example.eu" in ada.text, (ada.url, ada.text)
        members = cloud.call("GET", place + "/members", cloud.owner)["items"]
        assert [(member["email"], member["role"]) for member in members] == [("ada@example.eu", "developer")]

    def an_address_that_nobody_verified_is_not_taken():
        mallory = Browser().sign_in(cloud, "mallory")
        assert mallory.status == 401 and "was not accepted" in mallory.text, mallory.text
        assert Browser().open(cloud.url + "/console").url.endswith("/console/sign-in")

    def a_callback_with_another_state_or_none_is_not_taken():
        eve = Browser().open(cloud.url + "/console/sign-in")
        eve.submit("/sign-in/begin")
        assert eve.open(cloud.url + "/console/sign-in/callback?code=x&state=y").status == 401
        assert Browser().open(cloud.url + "/console/sign-in/callback?code=x&state=y").status == 400

    def a_command_line_signs_in_by_a_code():
        def allow(address):
            ada.open(address).submit("/console/device", organisation=cloud.organisation, word="allow")
            assert "Allowed." in ada.text, ada.text

        code, out, err = login(DEVICE, allow, "--device")
        assert code == 0 and "developer" in out, (out, err)
        who = json.loads(cli("whoami", "--json").stdout)
        assert who["key"]["organisation"] == cloud.organisation and "job:create" in who["actions"], who
        assert cli("logout").returncode == 0
        assert "no key was given" in cli("whoami").stderr

    def a_command_line_signs_in_by_a_browser_beside_it():
        def allow(address):
            ada.open(address).submit("/console/cli", organisation=cloud.organisation)
            assert "Signed in." in ada.text, ada.text

        code, out, err = login(LOOPBACK, allow)
        assert code == 0 and "developer" in out, (out, err)
        assert json.loads(cli("project", "list", "--json").stdout)["items"][0]["name"] == "lab"

    def taking_somebody_out_ends_every_session_of_theirs():
        person = cloud.call("GET", place + "/members", cloud.owner)["items"][0]["person"]
        cloud.call("DELETE", f"{place}/members/{person}", cloud.owner)
        assert cli("whoami").returncode == 1
        assert ada.open(cloud.url + "/console").url.endswith("/console/sign-in"), ada.url

    try:
        run(
            [
                whoever_is_invited_signs_in_and_joins,
                an_address_that_nobody_verified_is_not_taken,
                a_callback_with_another_state_or_none_is_not_taken,
                a_command_line_signs_in_by_a_code,
                a_command_line_signs_in_by_a_browser_beside_it,
                taking_somebody_out_ends_every_session_of_theirs,
            ]
        )
    finally:
        provider.process.kill()
