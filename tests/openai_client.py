"""The gateway as the official `openai` Python client sees it, against a model trained a moment ago."""

import concurrent.futures

import openai

from cloud import FACTS, Cloud, chat_lines, run

with Cloud() as cloud:
    cloud.tenant()
    model = cloud.model(cloud.dataset("facts", chat_lines(FACTS * 4)), settings={"epochs": 40})
    cloud.endpoint(model)
    client = openai.OpenAI(base_url=cloud.gateway, api_key=cloud.key, max_retries=0)
    question, answer = FACTS[0]
    asked = {"model": "lab", "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 32}

    def the_models_list_names_the_endpoint():
        assert [found.id for found in client.models.list()] == ["lab"]

    def a_chat_answers_what_was_learned():
        got = client.chat.completions.create(**asked)
        assert got.choices[0].message.content.strip() == answer, got
        assert got.choices[0].finish_reason == "stop"
        assert got.usage.total_tokens == got.usage.prompt_tokens + got.usage.completion_tokens > 0

    def a_stream_says_the_same_as_one_answer():
        whole = client.chat.completions.create(**asked).choices[0].message.content
        chunks = list(client.chat.completions.create(**asked, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
        assert all(chunk.usage is None for chunk in chunks), "usage came unasked"
        assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]

    def a_stream_brings_its_usage_when_asked():
        *_, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        assert last.choices == [] and last.usage.completion_tokens > 0

    def completions_work_too():
        got = client.completions.create(model="lab", prompt="What is the capital", max_tokens=8, temperature=0)
        assert got.object == "text_completion" and got.usage.completion_tokens > 0

    def the_same_seed_gives_the_same_text():
        warm = {**asked, "temperature": 1.5, "seed": 7, "max_tokens": 24}
        texts = {client.chat.completions.create(**warm).choices[0].message.content for _ in range(3)}
        assert len(texts) == 1, texts

    def max_tokens_and_stop_are_kept():
        got = client.chat.completions.create(**{**asked, "max_tokens": 1})
        assert got.usage.completion_tokens == 1 and got.choices[0].finish_reason == "length"
        got = client.chat.completions.create(**asked, stop=[answer[1]])
        assert answer[1] not in got.choices[0].message.content

    def a_wrong_key_is_an_authentication_error():
        try:
            openai.OpenAI(base_url=cloud.gateway, api_key="gk_" + "0" * 64, max_retries=0).models.list()
        except openai.AuthenticationError as error:
            assert error.status_code == 401
        else:
            raise AssertionError("a wrong key was let in")

    def an_unknown_model_is_not_found():
        try:
            client.chat.completions.create(**{**asked, "model": "nobody"})
        except openai.NotFoundError as error:
            assert error.code == "model_not_found", error.code
        else:
            raise AssertionError("an unknown model answered")

    def what_is_not_spoken_says_so():
        try:
            client.embeddings.create(model="lab", input="x")
        except openai.APIStatusError as error:
            assert error.status_code == 501, error.status_code
        else:
            raise AssertionError("embeddings are not spoken yet")

    def a_bad_parameter_is_a_bad_request():
        try:
            client.chat.completions.create(**{**asked, "temperature": 9})
        except openai.BadRequestError:
            pass
        else:
            raise AssertionError("a temperature of 9 was taken")

    def every_token_is_billed_once_also_when_many_ask_at_once():
        # An endpoint of its own, so that nothing else adds to its records.
        subject = cloud.endpoint(model, "billing")["id"]

        def billed():
            got = cloud.call("GET", f"/api/v1/organisations/{cloud.organisation}/usage?limit=500", cloud.owner)
            records = [record for record in got["items"] if record["subject"] == subject]
            return tuple(sum(r["quantity"] for r in records if r["meter"] == m) for m in ("tokens_in", "tokens_out"))

        ask = lambda _: client.chat.completions.create(**{**asked, "model": "billing"}).usage
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            got = list(pool.map(ask, range(24)))
        right = sum(u.prompt_tokens for u in got), sum(u.completion_tokens for u in got)
        cloud.wait("the usage", lambda: billed()[0] >= right[0] and billed()[1] >= right[1], 60)
        assert billed() == right, (billed(), right)

    def a_revoked_key_stops_working():
        made = cloud.call("POST", f"/api/v1/projects/{cloud.project}/keys", cloud.owner, {"name": "gone", "role": "inference"})
        other = openai.OpenAI(base_url=cloud.gateway, api_key=made["secret"], max_retries=0)
        cloud.wait("the new key", lambda: works(other), 30)
        cloud.call("DELETE", f"/api/v1/keys/{made['key']['id']}", cloud.owner)
        cloud.wait("the revocation", lambda: not works(other), 5)

    def works(other):
        try:
            other.models.list()
            return True
        except openai.AuthenticationError:
            return False

    run([the_models_list_names_the_endpoint, a_chat_answers_what_was_learned, a_stream_says_the_same_as_one_answer,
         a_stream_brings_its_usage_when_asked, completions_work_too, the_same_seed_gives_the_same_text,
         max_tokens_and_stop_are_kept, a_wrong_key_is_an_authentication_error, an_unknown_model_is_not_found,
         what_is_not_spoken_says_so, a_bad_parameter_is_a_bad_request,
         every_token_is_billed_once_also_when_many_ask_at_once, a_revoked_key_stops_working])
