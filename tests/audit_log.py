"""The audit log as Go's own packages for signed notes and transparency logs see it: exports, proofs, tiles, cosignatures."""

import json
import os
import pathlib
import shutil
import subprocess
import sysconfig
import tempfile

from cloud import Cloud, run

HERE = pathlib.Path(__file__).parent
GO = pathlib.Path(sysconfig.get_paths()["purelib"]) / "go"
folder = tempfile.TemporaryDirectory(prefix="gregal-audit-")
scratch = pathlib.Path(folder.name)


def build():
    """Builds the verifier from the packages that Go vendors for its own commands; nothing is fetched, nothing is kept."""
    module = scratch / "mod"
    for package in ["note", "tlog"]:
        shutil.copytree(GO / "src/cmd/vendor/golang.org/x/mod/sumdb" / package, module / "sumdb" / package)
    (module / "go.mod").write_text("module golang.org/x/mod\n\ngo 1.24\n")
    shutil.copy(HERE / "audit_go/main.go", scratch / "main.go")
    (scratch / "go.mod").write_text(
        "module audit\n\ngo 1.24\n\nrequire golang.org/x/mod v0.0.0\n\nreplace golang.org/x/mod => ./mod\n"
    )
    settings = {
        "GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOSUMDB": "off", "GOROOT": str(GO),
        "GOCACHE": str(scratch / "cache"), "GOPATH": str(scratch / "path"), "CGO_ENABLED": "0",
    }
    subprocess.run([GO / "bin/go", "build", "-o", "verify", "."], cwd=scratch, env=os.environ | settings, check=True)


def gregal(cloud, *words, key=None):
    """Types a verb; answers what it printed."""
    environment = os.environ | {"GREGAL_URL": cloud.url, "GREGAL_KEY": key or "", "XDG_STATE_HOME": str(scratch / "state")}
    done = subprocess.run([cloud.program, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def verify(cloud, file, key, witness=""):
    tiles = f"{cloud.url}/api/v1/audit"
    return subprocess.run([scratch / "verify", file, key, tiles, witness], capture_output=True, text=True)


build()
with Cloud() as cloud:
    cloud.tenant()
    for number in range(300):
        path = f"/api/v1/organisations/{cloud.organisation}/projects"
        cloud.call("POST", path, cloud.owner, {"name": f"p{number}"})
    first = cloud.call("GET", "/api/v1/audit?limit=1", cloud.admin)
    size = int(first["checkpoint"].splitlines()[1])
    assert size > 256, "the log should have a full tile"
    name = first["checkpoint"].splitlines()[0]
    for number in range(300):
        cloud.call("POST", path, cloud.owner, {"name": f"q{number}"})

    witness = gregal(cloud, "audit", "witness", "--key-file", str(scratch / "witness"), "--init", "witness.test/w").strip()
    cosigned = str(scratch / "cosigned")
    gregal(cloud, "audit", "witness", "--key-file", str(scratch / "witness"), "--log-key", first["log_key"], "--out", cosigned)
    exports = {}
    for view, key, flags in [("all", cloud.admin, ["--all"]), ("own", cloud.owner, [])]:
        exports[view] = str(scratch / f"{view}.jsonl")
        flags = [*flags, "--from", str(size), "--from", "3", "--checkpoint", cosigned]
        gregal(cloud, "audit", "export", "--out", exports[view], *flags, key=key)
    log = json.loads(open(exports["all"]).readline())["log"]
    assert log.startswith(name + "+"), log

    def go_refuses_a_tampered_export_first():
        text = open(exports["all"]).read()
        for change in [("project:create", "project:erased"), ("\"index\":9,", "\"index\":8,"), (name, name[:-1] + "x")]:
            bad = str(scratch / "bad.jsonl")
            assert change[0] in text
            open(bad, "w").write(text.replace(*change, 1))
            said = verify(cloud, bad, log, witness)
            assert said.returncode == 1, f"{change}: {said.stdout}"

    def go_refuses_the_export_under_another_key():
        other = witness.replace("witness.test/w", name)
        assert verify(cloud, exports["all"], other, witness).returncode == 1

    def go_agrees_on_the_whole_log():
        said = verify(cloud, exports["all"], log, witness)
        assert said.returncode == 0, said.stderr
        print(said.stdout.strip())

    def go_agrees_on_an_organisations_view():
        said = verify(cloud, exports["own"], log, witness)
        assert said.returncode == 0, said.stderr
        print(said.stdout.strip())

    def we_agree_without_a_server():
        for file in exports.values():
            words = ["audit", "verify", file, "--log-key", log, "--witness", witness]
            assert "verified" in gregal(cloud, *words)

    run([go_refuses_a_tampered_export_first, go_refuses_the_export_under_another_key, go_agrees_on_the_whole_log,
         go_agrees_on_an_organisations_view, we_agree_without_a_server])
