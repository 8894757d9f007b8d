"""The console as people use it: headless Chromium over a running cloud, with a training that goes on while it is watched."""

import tempfile
import urllib.error
import urllib.parse
import urllib.request

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.ui import Select

from cloud import FACTS, Cloud, chat_lines, run

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1200,1000"]


def browser(profile):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


with Cloud() as cloud, tempfile.TemporaryDirectory(prefix="gregal-console-") as profile:
    cloud.tenant()
    driver = browser(profile)
    origin = cloud.url
    dataset = cloud.dataset("facts", chat_lines(FACTS * 4))

    def go(path=""):
        driver.get(f"{cloud.console}{path}")

    def find(selector):
        return driver.find_element(By.CSS_SELECTOR, selector)

    def text(selector="main"):
        while True:
            found = driver.find_elements(By.CSS_SELECTOR, selector)
            try:
                return found[0].text if found else ""
            except StaleElementReferenceException:
                # The page replaced its live part between finding and reading: what stands there now is what is asked for.
                continue

    def submit(form):
        before = find("html")
        find(f"{form} button[type=submit]").click()
        # A click returns when it was made, which may be before the browser has gone on to the next page.
        cloud.wait("the next page", lambda: staleness_of(before)(driver), 30)
        cloud.wait("all of it", lambda: driver.execute_script("return document.readyState") == "complete", 30)

    def sign_in(key):
        go("/sign-in")
        find("#key").send_keys(key)
        submit("form[action='/console/sign-in']")

    def shot(name):
        driver.save_screenshot(f"{profile}/{name}.png")

    def scripts(on):
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not on})

    def a_wrong_key_is_refused():
        sign_in("gk_" + "0" * 64)
        assert "does not work" in text("#refused")
        go()
        assert driver.current_url.endswith("/console/sign-in"), driver.current_url

    def a_key_signs_in_and_the_overview_says_what_runs():
        sign_in(cloud.owner)
        assert driver.current_url == cloud.console, driver.current_url
        assert "Spent this month" in text() and "Overview" in driver.title
        cookie = driver.get_cookie("gregal_console")
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["path"] == "/console", cookie
        assert cloud.owner not in driver.page_source and cloud.owner not in cookie["value"]

    def a_running_jobs_log_arrives_line_by_line():
        script = "for line in 1 2 3 4 5 6 7 8; do echo this is line $line; sleep 1; done"
        job = cloud.call("POST", f"/api/v1/projects/{cloud.project}/jobs", cloud.key, {
            "name": "talker", "sku": "cpu.1", "seconds_max": 60,
            "program": {"kind": "command", "argv": ["/bin/sh", "-c", script], "inputs": [dataset]}})
        go(f"/jobs/{job['id']}")
        cloud.wait("the first line", lambda: "this is line 1" in text("#log"), 60)
        assert "this is line 8" not in text("#log"), "the log came all at once"
        cloud.wait("the last line", lambda: "this is line 8" in text("#log"), 60)
        assert text("#log").count("this is line") == 8, text("#log")
        cloud.wait("the end", lambda: "succeeded" in text("#state"), 30)
        # The browser lists a request when its answer has ended: the log's stream ends a moment after the job.
        asked = lambda: driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        cloud.wait("the log's stream to end", lambda: any("/logs" in address for address in asked()), 30)
        logs = [address for address in asked() if "/logs" in address]
        assert all(not address.startswith(origin) for address in logs), asked()

    def a_running_job_shows_its_loss_as_it_falls():
        job = cloud.call("POST", f"/api/v1/projects/{cloud.project}/jobs", cloud.key, {
            "name": "watched", "sku": "cpu.1", "seconds_max": 900,
            "program": {"kind": "train", "dataset": dataset, "model_name": "lab", "settings": {"epochs": 60}}})
        go(f"/jobs/{job['id']}")
        # From here on the page changes by itself: it is never loaded again.
        cloud.wait("the loss plot", lambda: driver.find_elements(By.CSS_SELECTOR, "#loss-plot polyline"), 120)
        cloud.wait("the end", lambda: "succeeded" in text("#state"), 600)
        assert text("#made").endswith(".") and "100 %" in text("#live")
        cloud.job = cloud.call("GET", f"/api/v1/jobs/{job['id']}", cloud.key)
        cloud.wait("its last log line", lambda: f"step {cloud.job['progress']['step']}/" in text("#log"), 30)
        shot("job")

    def a_models_page_says_where_it_came_from():
        go(f"/models/{cloud.job['model']}")
        model = cloud.call("GET", f"/api/v1/models/{cloud.job['model']}", cloud.key)
        shown = text("#lineage")
        for fact in (model["lineage"]["dataset_digest"], cloud.job["id"], model["kwh"], model["lineage"]["energy_method"],
                     model["lineage"]["code_version"]):
            assert fact in shown, (fact, shown)

    def a_form_serves_the_model():
        go(f"/projects/{cloud.project}/endpoints")
        form = "form[action$='/endpoints']"
        find(f"{form} input[name=name]").send_keys("lab")
        Select(find(f"{form} select")).select_by_visible_text("lab@1")
        submit(form)
        cloud.wait("the endpoint", lambda: "ready" in text("#state .state"), 120)

    def the_playground_streams_an_answer_from_the_site():
        question, answer = FACTS[0]
        find("#question").send_keys(question)
        find("#ask").click()
        cloud.wait("the answer", lambda: answer in text("#talk .answer"), 60)
        cloud.wait("the count", lambda: "written" in text("#talk-status"), 30)
        shot("playground")
        asked = driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        chats = [address for address in asked if "/chat/completions" in address]
        assert chats and all(address.startswith(cloud.gateway) for address in chats), asked

    def a_dataset_goes_from_the_browser_to_the_site():
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
            file.write(chat_lines(FACTS))
            file.flush()
            go(f"/projects/{cloud.project}/datasets")
            find("#upload-file").send_keys(file.name)
            name = find("#upload-name")
            name.clear()
            name.send_keys("uploaded")
            find("#upload-start").click()
            cloud.wait("the upload", lambda: "Stored." in text("#upload-status"), 30)
        row = lambda: next((row for row in text("#live").splitlines() if row.startswith("uploaded")), None)
        cloud.wait("the row", row, 30)
        cloud.wait("the site's word", lambda: "pending" not in text("#live"), 30)

    def the_invoices_total_is_the_apis():
        # What the chat used is on its way for a moment.
        def agree():
            draft = cloud.call("GET", f"/api/v1/organisations/{cloud.organisation}/invoice-draft", cloud.owner)
            go("/invoice")
            return text("#total") == f"{draft['total'] // 100}.{draft['total'] % 100:02d}" and len(draft["lines"]) >= 2
        cloud.wait("the invoice", agree, 30)
        shot("invoice")

    def the_audit_page_is_verified():
        go("/audit")
        assert "Verified." in text("#verified") and "job:create" in text("#entries")

    def without_javascript_pages_still_show_their_data():
        scripts(False)
        try:
            go(f"/jobs/{cloud.job['id']}")
            assert not driver.find_elements(By.CSS_SELECTOR, "html.js"), "scripts still run"
            assert "succeeded" in text("#state") and driver.find_elements(By.CSS_SELECTOR, "#loss-plot polyline")
            for path, word in [("", "Endpoints ready"), (f"/models/{cloud.job['model']}", "Dataset digest"), ("/usage", "core-hours"),
                               ("/invoice", "Total"), ("/audit", "Verified."), (f"/projects/{cloud.project}/placement", "allowed"),
                               (f"/projects/{cloud.project}/datasets", "facts"), ("/sites", "alive")]:
                go(path)
                assert word in text(), (path, text())
        finally:
            scripts(True)

    def nothing_was_blocked_and_no_script_failed():
        wrong = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE" and "401" not in entry["message"]]
        assert not wrong, wrong

    def a_narrow_page_does_not_scroll_sideways():
        driver.set_window_size(400, 800)
        try:
            for path in ("", f"/jobs/{cloud.job['id']}", "/invoice", "/audit", f"/projects/{cloud.project}/datasets"):
                go(path)
                wide, there = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
                assert wide <= there, (path, wide, there)
        finally:
            driver.set_window_size(1200, 1000)

    def a_post_without_the_token_is_refused():
        cookie = driver.get_cookie("gregal_console")["value"]
        path = f"{origin}/console/projects/{cloud.project}/keys"
        request = urllib.request.Request(path, method="POST", data=urllib.parse.urlencode({"name": "x", "role": "viewer", "once": "1"}).encode(),
                                         headers={"cookie": f"gregal_console={cookie}", "origin": origin})
        try:
            urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            assert error.code == 403, error.code
        else:
            raise AssertionError("a form without a token was let in")

    def the_session_ends_at_sign_out():
        go()
        old = driver.get_cookie("gregal_console")["value"]
        find("#sign-out").click()
        cloud.wait("the sign-in page", lambda: driver.current_url.endswith("/console/sign-in"), 30)
        driver.add_cookie({"name": "gregal_console", "value": old, "path": "/console"})
        go()
        assert driver.current_url.endswith("/console/sign-in"), "the old cookie still works"

    def an_operator_sees_sites_and_organisations_and_nothing_of_tenants():
        sign_in(cloud.admin)
        go("/organisations")
        assert "Test Lab" in text()
        go(f"/jobs/{cloud.job['id']}")
        assert "not found" in text()

    try:
        run([a_wrong_key_is_refused, a_key_signs_in_and_the_overview_says_what_runs,
             a_running_jobs_log_arrives_line_by_line, a_running_job_shows_its_loss_as_it_falls,
             a_models_page_says_where_it_came_from, a_form_serves_the_model, the_playground_streams_an_answer_from_the_site,
             a_dataset_goes_from_the_browser_to_the_site, the_invoices_total_is_the_apis, the_audit_page_is_verified,
             without_javascript_pages_still_show_their_data, nothing_was_blocked_and_no_script_failed,
             a_narrow_page_does_not_scroll_sideways, a_post_without_the_token_is_refused, the_session_ends_at_sign_out,
             an_operator_sees_sites_and_organisations_and_nothing_of_tenants])
    finally:
        driver.quit()
