"""A tenant's PyTorch training as a job in the sandbox: it computes, with threads, worker processes and shared memory; it reaches
nobody; its log comes from the site; what it used is metered. Where the site has a GPU it runs on that, and its joules are measured.

usage: torch_job.py [PYTHON]    the interpreter that has PyTorch; Debian's if absent. What it needs outside /usr is shown to jobs"""

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from cloud import Cloud, run

PYTHON = sys.argv[1] if len(sys.argv) > 1 else "/usr/bin/python3"
SCRIPT = (Path(__file__).parent / "torch_train.py").read_text()
TEXT = b"Every model of ours is trained where its data lie, and its energy is counted.\n" * 40
DONE = ("succeeded", "failed", "cancelled")


def said_in(log):
    """The lines of the script, as it said them, first word and steps."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return next(line for line in lines if "torch" in line), [line for line in lines if "step" in line]


def check_learned(log):
    first, steps = said_in(log)
    print(f"        torch {first['torch']} on {first['device']} {first['name']}: loss {steps[0]['loss']} to {steps[-1]['loss']}")
    assert steps[-1]["step"] == 120 and steps[-1]["loss"] < 0.3 * steps[0]["loss"], steps


def check_alone(log):
    first, _ = said_in(log)
    assert first["network"].startswith("refused"), first
    # Itself and what started it; nothing else of the machine.
    assert first["processes"] <= 3, first


def shown_to_jobs():
    """Settings that show the interpreter's own folders, where they are not shown anyway."""
    asked = "import os, sys; print(json.dumps([sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable))]))"
    folders = json.loads(subprocess.run([PYTHON, "-c", f"import json; {asked}"], stdout=subprocess.PIPE, text=True, check=True).stdout)
    own = sorted({folder for folder in folders if not Path(folder).is_relative_to("/usr")})
    return ["--set", "engine.visible=" + ",".join(own)] if own else []


with Cloud(*shown_to_jobs()) as cloud:
    cloud.tenant()
    control = cloud.url.removeprefix("http://")
    dataset = cloud.dataset("text", TEXT)
    # What is cut into slices or unsound is listed, and never granted.
    gpus = max(sum(gpu["healthy"] for gpu in site["capacity"]["accelerators"]) for site in cloud.call("GET", "/api/v1/sites", cloud.admin)["items"])

    def outside_the_sandbox_the_checks_fail():
        with tempfile.NamedTemporaryFile() as file:
            file.write(TEXT)
            file.flush()
            done = subprocess.run([PYTHON, "-c", SCRIPT, file.name, control], stdout=subprocess.PIPE, text=True, check=True, timeout=300)
        check_learned(done.stdout)
        first, _ = said_in(done.stdout)
        assert first["network"] == "reached", first
        try:
            check_alone(done.stdout)
        except AssertionError:
            return
        raise AssertionError("a program outside the sandbox passed for one inside")

    def a_training_runs_in_the_sandbox():
        cloud.job = cloud.call("POST", f"/api/v1/projects/{cloud.project}/jobs", cloud.key, {
            "name": "torch", "sku": "gpu.1" if gpus else "cpu.1", "seconds_max": 300,
            "program": {"kind": "command", "argv": [PYTHON, "-c", SCRIPT, f"/gregal/input/{dataset}", control], "inputs": [dataset]}})
        read = lambda: cloud.call("GET", f"/api/v1/jobs/{cloud.job['id']}", cloud.key)
        cloud.wait("the training", lambda: read()["state"] in DONE, 300)
        cloud.job = read()
        log, url = logs()
        assert cloud.job["state"] == "succeeded", (cloud.job["end"], log)
        # Content comes from the site itself.
        assert cloud.gateway.startswith(url) and not cloud.url.startswith(url), url
        check_learned(log)
        check_alone(log)
        assert (said_in(log)[0]["device"] == "cuda") == (gpus > 0), log

    def logs():
        grant = cloud.call("POST", f"/api/v1/projects/{cloud.project}/grants", cloud.key, {"purpose": "job_logs", "object": cloud.job["id"]})
        request = urllib.request.Request(f"{grant['url']}/content/v1/jobs/{cloud.job['id']}/logs", headers={"authorization": f"Bearer {grant['grant']}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode(), grant["url"]

    def what_it_used_is_metered_and_energy_says_how_it_is_known():
        def used():
            got = cloud.call("GET", f"/api/v1/organisations/{cloud.organisation}/usage?limit=500", cloud.owner)["items"]
            return [record for record in got if record["subject"] == cloud.job["id"]]
        cores = 4 if gpus else 1
        ran_ms = ms(cloud.job["ended_at"]) - ms(cloud.job["started_at"])
        total = lambda meter: sum(record["quantity"] for record in used() if record["meter"] == meter)
        # The last record may be on its way for a moment.
        cloud.wait("the usage", lambda: total("compute_core") >= 0.9 * cores * ran_ms, 60)
        assert 0 < total("compute_core") <= cores * ran_ms, (total("compute_core"), ran_ms)
        energy = [record for record in used() if record["meter"] == "energy"]
        assert total("energy") > 0, energy
        known = sorted({record["estimated"] or "measuring" for record in energy})
        print(f"        {ran_ms} ms, {total('compute_core')} core-ms, {total('energy')} mJ, known by: {'; '.join(known)}")
        # The processors' energy is always an estimate, and stands in records of its own.
        others = [record for record in energy if "mW a busy core" not in (record["estimated"] or "")]
        if not gpus:
            assert total("accelerator") == 0 and not others, energy
            return
        assert total("accelerator") > 0 and others, energy
        others.sort(key=lambda record: record["ended_at"])
        # Read from the GPU's own counter, and called measured once the run is long enough.
        assert all(record["estimated"] is None or "run too short" in record["estimated"] for record in others), others
        assert others[-1]["estimated"] is None and others[-1]["quantity"] > 0, others

    def ms(time):
        from datetime import datetime
        return int(datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp() * 1000)

    run([outside_the_sandbox_the_checks_fail, a_training_runs_in_the_sandbox,
         what_it_used_is_metered_and_energy_says_how_it_is_known])
