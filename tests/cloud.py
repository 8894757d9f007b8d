"""A running cloud for tests that use real clients: starts the release executable on free ports and stops it again."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request


class Cloud:
    """`gregal up` on an empty folder, with an organisation, a project and its key made through the public API."""

    def __init__(self, *flags):
        self.program = os.environ["GREGAL_TEST_PROGRAM"]
        self.folder = tempfile.TemporaryDirectory(prefix="gregal-test-")
        self.process = subprocess.Popen(
            [self.program, "up", "--data-dir", self.folder.name, "--control-listen", "127.0.0.1:0", "--site-listen", "127.0.0.1:0", *flags],
            stdout=subprocess.PIPE,
            text=True,
        )
        words = {}
        for line in self.process.stdout:
            found = re.match(r"(console|api|gateway|admin)\s+(\S+)", line)
            if found:
                words[found.group(1)] = found.group(2)
            if len(words) == 4:
                break
        self.console, self.gateway, self.admin = words["console"], words["gateway"], words["admin"]
        self.url = words["api"].removesuffix("/api/v1")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("the cloud did not drain within 60 s of SIGTERM")
        self.folder.cleanup()
        assert code == 0, f"the cloud ended with {code}"

    def call(self, method, path, key, body=None):
        request = urllib.request.Request(self.url + path, method=method, headers={"authorization": f"Bearer {key}"})
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def tenant(self, credit_cents=2500):
        made = self.call("POST", "/api/v1/organisations", self.admin, {"name": "Test Lab", "country": "FR", "credit_cents": credit_cents})
        self.organisation, self.owner = made["organisation"]["id"], made["owner_key"]["secret"]
        self.project = self.call("POST", f"/api/v1/organisations/{self.organisation}/projects", self.owner, {"name": "lab"})["id"]
        made = self.call("POST", f"/api/v1/projects/{self.project}/keys", self.owner, {"name": "dev", "role": "developer"})
        self.key = made["secret"]

    def wait(self, what, ask, seconds=300):
        """Asks until there is an answer; a state that never comes is a failure, not a pause."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = ask()
            if found:
                return found
            time.sleep(0.2)
        raise AssertionError(f"waited {seconds} s for {what}")

    def dataset(self, name, content):
        made = self.call("POST", f"/api/v1/projects/{self.project}/datasets", self.key, {"name": name})
        grant, identity = made["grant"], made["dataset"]["id"]
        request = urllib.request.Request(
            f"{grant['url']}/content/v1/datasets/{identity}", method="PUT", data=content,
            headers={"authorization": f"Bearer {grant['grant']}"},
        )
        urllib.request.urlopen(request, timeout=600).read()
        read = lambda: self.call("GET", f"/api/v1/datasets/{identity}", self.key)
        self.wait("the dataset", lambda: read()["state"] == "stored")
        return identity

    def model(self, dataset, settings=None, base_model=None, heldout=None, sku="cpu.1", seconds_max=900):
        program = {"kind": "train", "dataset": dataset, "model_name": "lab", "settings": settings or {}}
        if base_model:
            program["base_model"] = base_model
        if heldout:
            program["heldout"] = heldout
        job = self.call("POST", f"/api/v1/projects/{self.project}/jobs", self.key,
                        {"name": "train", "program": program, "sku": sku, "seconds_max": seconds_max})
        read = lambda: self.call("GET", f"/api/v1/jobs/{job['id']}", self.key)
        done = self.wait("the training", lambda: (lambda j: j if j["state"] in ("succeeded", "failed", "cancelled") else None)(read()), seconds_max)
        assert done["state"] == "succeeded", done["end"]
        self.job = done
        return done["model"]

    def endpoint(self, model, name="lab"):
        made = self.call("POST", f"/api/v1/projects/{self.project}/endpoints", self.key, {"name": name, "model": model})
        read = lambda: self.call("GET", f"/api/v1/endpoints/{made['id']}", self.key)
        return self.wait("the endpoint", lambda: (lambda e: e if e["state"] == "ready" else None)(read()))


#: Questions and answers small enough to learn in seconds.
FACTS = [("What is the capital of France?", "Paris"), ("What is the capital of Italy?", "Rome"),
         ("What is the capital of Spain?", "Madrid"), ("What is the capital of Poland?", "Warsaw"),
         ("What is the capital of Latvia?", "Riga"), ("What is the capital of Norway?", "Oslo")]


def chat_lines(facts):
    lines = [json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}) for q, a in facts]
    return ("\n".join(lines) + "\n").encode()


def run(tests):
    """Runs test functions in order, prints each, and ends with a line that counts them."""
    failed = 0
    for test in tests:
        try:
            test()
            print(f"ok      {test.__name__}")
        except Exception as error:  # every failure is reported, then the exit status says so
            failed += 1
            print(f"FAILED  {test.__name__}: {type(error).__name__}: {error}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
