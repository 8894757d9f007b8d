"""An organisation's directory, played by PyPI `scim2-tester`: every check it knows of what we say we speak."""

from httpx2 import Client
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server

from cloud import Cloud, run


def results(cloud, headers, bend=None):
    """Everything the tester found; `bend` changes answers on their way to it."""
    hooks = {"response": [bend]} if bend else {}
    base = f"{cloud.url}/api/v1/organisations/{cloud.organisation}/scim/v2"
    with Client(base_url=base, headers=headers, event_hooks=hooks, timeout=60) as http:
        return check_server(SyncSCIMClient(http))


def wrong(found):
    return [f"{one.title}: {one.reason}" for one in found if one.status in (Status.DEVIATION, Status.ERROR, Status.CRITICAL)]


with Cloud() as cloud:
    cloud.tenant()
    made = cloud.call("POST", f"/api/v1/organisations/{cloud.organisation}/scim/credentials", cloud.owner,
                      {"name": "directory", "role": "owner"})
    headers = {"authorization": f"Bearer {made['secret']}"}

    def the_tester_finds_a_bent_answer():
        """A tester that finds nothing wrong in anything would show nothing."""
        def bend(response):
            response.headers["content-type"] = "text/plain"
        assert wrong(results(cloud, headers, bend)), "answers in the wrong media type pass"

    def the_tester_finds_nothing_wrong():
        found = results(cloud, headers)
        done = [one for one in found if one.status == Status.SUCCESS]
        assert len(done) >= 20, f"only {len(done)} checks were made"
        assert not wrong(found), "\n".join(wrong(found))

    run([the_tester_finds_a_bent_answer, the_tester_finds_nothing_wrong])
