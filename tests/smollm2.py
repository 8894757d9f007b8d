"""Fine-tunes SmolLM2-135M-Instruct through the tour and serves it: facts it cannot have known are answered exactly."""

import json
import os
import subprocess
import sys
import tempfile

from cloud import run

program, model = os.environ["GREGAL_TEST_PROGRAM"], sys.argv[1]


def a_real_instruct_model_learns_invented_facts_and_answers_them():
    with tempfile.TemporaryDirectory(prefix="gregal-test-") as folder:
        done = subprocess.run(
            [program, "tour", "--exit", "--json", "--base-model", model, "--data-dir", folder,
             "--control-listen", "127.0.0.1:0", "--site-listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, text=True, timeout=1500, check=False,
        )
        assert done.stdout, f"the tour printed no summary and ended with {done.returncode}"
        summary = json.loads(done.stdout)
        print(json.dumps(summary["training"], indent=2))
        assert done.returncode == 0 and summary["ok"], summary.get("failed")
        assert summary["training"]["heldout_asked"] > 0
        assert summary["training"]["heldout_exact"] >= 0.95, summary["training"]


run([a_real_instruct_model_learns_invented_facts_and_answers_them])
