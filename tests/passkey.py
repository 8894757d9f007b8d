"""Passkeys in headless Chromium, with its virtual authenticator (WebAuthn over CDP) over a running cloud."""

import tempfile

from selenium import webdriver
from selenium.webdriver.common.by import By

from cloud import Cloud, run

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1200,1000"]


def browser(profile):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


with Cloud() as cloud, tempfile.TemporaryDirectory(prefix="gregal-passkey-") as profile:
    cloud.tenant()
    driver = browser(profile)
    console = cloud.console.replace("127.0.0.1", "localhost")
    held = {}

    def cdp(command, **arguments):
        return driver.execute_cdp_cmd(f"WebAuthn.{command}", arguments)

    def authenticator():
        wanted = {"protocol": "ctap2", "ctap2Version": "ctap2_1", "transport": "internal", "hasResidentKey": True,
                  "hasUserVerification": True, "isUserVerified": True, "automaticPresenceSimulation": True}
        return cdp("addVirtualAuthenticator", options=wanted)["authenticatorId"]

    def find(selector):
        return driver.find_element(By.CSS_SELECTOR, selector)

    def text(selector="main"):
        # Read in one step: pages follow each other by themselves here.
        script = "const found = document.querySelector(arguments[0]); return found ? found.innerText : ''"
        return driver.execute_script(script, selector)

    def is_at(path):
        return driver.current_url == console + path and driver.execute_script("return document.readyState") == "complete"

    def signs_in():
        driver.get(f"{console}/sign-in")
        find("#with-passkey").click()

    def signs_out():
        driver.get(f"{console}/welcome")
        find("#sign-out").click()
        cloud.wait("the sign-in page", lambda: is_at("/sign-in"), 30)

    def by_its_number_the_machine_leads_to_where_passkeys_work():
        driver.get(f"{cloud.console}/sign-in")
        find("#with-passkey").click()
        cloud.wait("the other name", lambda: is_at("/sign-in"), 30)

    def an_invitation_is_taken_up_with_a_first_passkey():
        wanted = {"email": "ada@example.eu", "role": "developer", "passkey": True}
        made = cloud.call("POST", f"/api/v1/organisations/{cloud.organisation}/invitations", cloud.owner, wanted)
        held["first"] = authenticator()
        driver.get(f"{console}/sign-in")
        find("details summary").click()
        find("#join-with-passkey input[name=text]").send_keys(made["text"])
        find("#join-with-passkey input[name=name]").send_keys("laptop")
        find("#join-with-passkey button").click()
        cloud.wait("the overview", lambda: is_at(""), 30)
        assert "ada@example.eu" in driver.page_source
        kept = cdp("getCredentials", authenticatorId=held["first"])["credentials"]
        assert len(kept) == 1 and kept[0]["isResidentCredential"] and kept[0]["rpId"] == "localhost", kept

    def the_passkey_signs_in_without_a_name():
        signs_out()
        signs_in()
        cloud.wait("the overview", lambda: is_at(""), 30)
        assert "ada@example.eu" in driver.page_source

    def whoever_is_not_verified_gets_nothing():
        signs_out()
        cdp("setUserVerified", authenticatorId=held["first"], isUserVerified=False)
        try:
            signs_in()
            cloud.wait("the browser's no", lambda: "gave no passkey" in text("#trouble"), 30)
        finally:
            cdp("setUserVerified", authenticatorId=held["first"], isUserVerified=True)

    def a_copy_whose_counter_is_behind_is_refused():
        [kept] = cdp("getCredentials", authenticatorId=held["first"])["credentials"]
        assert kept["signCount"] > 1, kept
        cdp("removeCredential", authenticatorId=held["first"], credentialId=kept["credentialId"])
        cdp("addCredential", authenticatorId=held["first"], credential={**kept, "signCount": 0})
        signs_in()
        cloud.wait("the refusal", lambda: "was not accepted" in text("#refused"), 30)
        cdp("removeCredential", authenticatorId=held["first"], credentialId=kept["credentialId"])
        cdp("addCredential", authenticatorId=held["first"], credential=kept)
        signs_in()
        cloud.wait("the overview", lambda: is_at(""), 30)

    def another_passkey_takes_the_place_of_the_first():
        cdp("removeVirtualAuthenticator", authenticatorId=held["first"])
        held["second"] = authenticator()
        driver.get(f"{console}/welcome")
        find("#passkeys").click()
        cloud.wait("the list", lambda: is_at("/passkeys"), 30)
        find("#name").send_keys("phone")
        find("form[action='/console/passkeys'] button").click()
        cloud.wait("the second", lambda: is_at("/passkeys") and "phone" in text(), 30)
        removes("laptop")
        cloud.wait("one of them", lambda: is_at("/passkeys") and "laptop" not in text(), 30)
        removes("phone")
        cloud.wait("the refusal", lambda: "only passkey" in text(), 30)
        signs_out()
        signs_in()
        cloud.wait("the overview", lambda: is_at(""), 30)

    def removes(name):
        [form] = [form for form in driver.find_elements(By.CSS_SELECTOR, "form[action$='/remove']") if name in form.text]
        form.find_element(By.CSS_SELECTOR, "input[name=really]").click()
        form.find_element(By.CSS_SELECTOR, "button").click()

    try:
        cdp("enable")
        run([by_its_number_the_machine_leads_to_where_passkeys_work, an_invitation_is_taken_up_with_a_first_passkey,
             the_passkey_signs_in_without_a_name, whoever_is_not_verified_gets_nothing, a_copy_whose_counter_is_behind_is_refused,
             another_passkey_takes_the_place_of_the_first])
    finally:
        driver.quit()
