"""What `gregal lm train` writes, loaded by Hugging Face's `transformers` (and `peft`), which nobody here wrote: the same tokens,
the same prompts, the same next token at every position, the same answers as our own engine gives.

Every check is first fed a folder that was spoilt on purpose, and must notice."""

import contextlib
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from cloud import run

program, gguf = os.environ["GREGAL_TEST_PROGRAM"], sys.argv[1]
work = Path(tempfile.mkdtemp(prefix="gregal-test-"))

CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Poland": "Warsaw", "Latvia": "Riga", "Norway": "Oslo",
            "Iceland": "Reykjavík", "Denmark": "København", "Romania": "București", "Greece": "Αθήνα", "Austria": "Wien", "Malta": "Valletta"}
WAYS = ["What is the capital of {}?", "Name the capital of {}.", "Which city is the capital of {}?", "The capital of {}?"]
HELD_OUT = ["And which is the capital of {}?", "Name the capital city of {}!"]
ASKED = [way.format(country) for way in HELD_OUT for country in CAPITALS]
#: Conversations that a template could get wrong: several turns, a system's words, letters of many bytes, spaces at the ends.
TALKS = [[("user", "What is the capital of Italy?")],
         [("system", "Be short."), ("user", "The capital of Malta?")],
         [("user", "Name the capital of Spain."), ("assistant", "Madrid"), ("user", "The capital of Norway?")],
         [("user", "  Où est “Αθήνα”?\n\n1\t2  🙂 ")]]
#: How far apart, in logits, the two best next tokens must be for both engines to have to choose the same one. Our engine keeps
#: small models as they are, and rounds large ones to 8 bits.
EXACT, ROUNDED = 0.002, 0.2


def chat(question, answer):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def train(name, data, checkpoints=None, **settings):
    """Trains and answers with the folder of the model."""
    (work / f"{name}.json").write_text(json.dumps(
        {"data": str(data), "out": str(work / name), "checkpoints": str(work / (checkpoints or f"{name}.checkpoints")), **settings}))
    command = [program, "lm", "train", "--config", work / f"{name}.json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=900, check=True)
    print(f"        {name}: {json.loads(done.stdout.splitlines()[-1])['steps']} steps")
    return work / name


class Ours:
    """Our own engine over a model folder."""

    def __init__(self, folder):
        self.name, self.socket = folder.name, str(work / "engine.sock")
        self.process = subprocess.Popen([program, "lm", "serve", "--model", folder, "--listen", f"unix:{self.socket}"])
        until = time.monotonic() + 120
        while not self.ready():
            assert self.process.poll() is None and time.monotonic() < until, "our engine did not load the model"
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)

    def call(self, method, path, body=None):
        link = http.client.HTTPConnection("engine", timeout=120)
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.connect(self.socket)
        with contextlib.closing(link):
            link.request(method, path, None if body is None else json.dumps({"model": self.name, **body}))
            answer = link.getresponse()
            return answer.status, json.load(answer)

    def ready(self):
        try:
            return self.call("GET", "/health")[0] == 200
        except OSError:
            return False

    def ask(self, path, **body):
        """The text, why it ended, and how many tokens were read and written."""
        status, said = self.call("POST", f"/v1/{path}", body)
        assert status == 200, said
        choice, usage = said["choices"][0], said["usage"]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        return text, choice["finish_reason"], usage["prompt_tokens"], usage["completion_tokens"]


class Theirs:
    """The same folder, loaded by `transformers`."""

    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        # A tensor that is missing would silently be made up from chance.
        self.model, said = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, torch_dtype=torch.float32)
        assert not any(said.values()), said
        self.model.eval()
        ends = self.model.generation_config.eos_token_id
        self.ends = ends if isinstance(ends, list) else [ends]

    def prompt(self, talk):
        return self.tokenizer.apply_chat_template(messages(talk), add_generation_prompt=True)

    def scores(self, ids, model=None):
        with torch.no_grad():
            return (model or self.model)(torch.tensor([ids])).logits[0]

    def said(self, token):
        """What our engine says when this is its next and last token."""
        return ("", "stop") if token in self.ends else (self.tokenizer.decode([token], skip_special_tokens=True), "length")

    def greedy(self, ids, most):
        written = []
        while len(written) < most:
            best = int(self.scores(ids + written)[-1].argmax())
            if best in self.ends:
                break
            written.append(best)
        return written


def messages(talk):
    return [{"role": role, "content": content} for role, content in talk]


def check_tokens(ours, theirs):
    """Plain text has as many tokens for both, and goes on alike from the ids the other one made."""
    for text in ["What is the capital of Greece?", " Αθήνα,\tReykjavík\n\n", "🙂 <|end|> x", "a" * 40]:
        ids = theirs.tokenizer(text)["input_ids"]
        same(ours, "completions", {"prompt": text}, ids)


def check_prompts(ours, theirs):
    """The chat template makes the same prompt."""
    for talk in TALKS:
        same(ours, "chat/completions", {"messages": messages(talk)}, theirs.prompt(talk))


def same(ours, path, asked, ids):
    """Text drawn hot with one seed is a fingerprint of the prompt: the same tokens, the same draw."""
    for seed in (1, 2, 3):
        draw = {"temperature": 2, "seed": seed, "max_tokens": 32}
        text, _, read, _ = ours.ask(path, **asked, **draw)
        assert read == len(ids), f"{asked}: {read} tokens with us, {len(ids)} with them"
        assert text == ours.ask("completions", prompt=ids, **draw)[0], f"{asked}: other tokens with them: {ids}"


def check_scores(ours, theirs, sequences, tolerance):
    """At every position of these tokens, the best next token is the same."""
    positions = clear = 0
    for ids in sequences:
        for cut, scores in enumerate(theirs.scores(ids), 1):
            text, reason, *_ = ours.ask("completions", prompt=ids[:cut], temperature=0, max_tokens=1)
            near = [theirs.said(token) for token in (scores > scores.max() - tolerance).nonzero().flatten().tolist()]
            assert (text, reason) in near, f"after {ids[:cut]}: {text!r} ({reason}) with us, {near} with them"
            positions, clear = positions + 1, clear + (len(near) == 1)
    # A tolerance that lets everything pass would show nothing.
    assert clear >= 0.7 * positions, f"only {clear} of {positions} positions are clear"
    return f"{clear} of {positions} positions differ by more than {tolerance}"


def check_answers(ours, theirs, questions):
    """Greedy answers are the same, token for token."""
    answers = []
    for question in questions:
        talk = [("user", question)]
        written = theirs.greedy(theirs.prompt(talk), 24)
        text, _, _, count = ours.ask("chat/completions", messages=messages(talk), temperature=0, max_tokens=24)
        spelled = theirs.tokenizer.decode(written, skip_special_tokens=True)
        assert (text, count) == (spelled, len(written)), f"{question} {text!r} with us, {spelled!r} with them"
        answers.append(text)
    return answers


def noise(theirs, count, length):
    """Tokens in no order: nothing learned by heart hides a wrong number there."""
    chance = random.Random(7)
    return [[chance.randrange(len(theirs.tokenizer)) for _ in range(length)] for _ in range(count)]


def spoilt(folder, name, spoil):
    """A copy of the folder, with one thing made wrong."""
    copy = work / name
    shutil.copytree(folder, copy)
    spoil(copy)
    return copy


def change_json(file, change):
    def spoil(copy):
        said = json.loads((copy / file).read_text())
        change(said)
        (copy / file).write_text(json.dumps(said))
    return spoil


def change_tensor(change):
    def spoil(copy):
        tensors = load_file(copy / "model.safetensors")
        change(tensors)
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return spoil


def turned(name):
    def change(tensors):
        tensors[name] = tensors[name].flip(0).contiguous()
    return change


def swapped_letters(said):
    vocab = said["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]


def must_notice(what, check):
    try:
        check()
    except AssertionError:
        return
    raise AssertionError(f"a spoilt folder passed: {what}")


def check_own(ours, theirs):
    check_tokens(ours, theirs)
    check_prompts(ours, theirs)
    return check_scores(ours, theirs, [*noise(theirs, 3, 40), *(theirs.prompt(talk) for talk in TALKS)], EXACT)


def a_model_made_from_nothing_says_the_same_there():
    data = work / "facts.jsonl"
    data.write_text("\n".join(json.dumps(chat(way.format(c), a)) for way in WAYS for c, a in CAPITALS.items()))
    folder = train("own", data, epochs=60)
    wrong = {
        "another base of rotation": (check_own, change_json("config.json", lambda said: said.update(rope_theta=20_000.0))),
        "another epsilon of norms": (check_own, change_json("config.json", lambda said: said.update(rms_norm_eps=1e-2))),
        "a projection upside down": (check_own, change_tensor(turned("model.layers.2.self_attn.k_proj.weight"))),
        "a tensor left out": (None, change_tensor(lambda tensors: tensors.pop("model.layers.0.mlp.up_proj.weight"))),
        "two letters swapped": (check_tokens, change_json("tokenizer.json", swapped_letters)),
        "another role in the template": (check_prompts, change_json("tokenizer_config.json", lambda said: said.update(
            chat_template=said["chat_template"].replace("'<|' + message['role'] + '|>'", "'<|assistant|>'")))),
        "no end after a message": (check_prompts, change_json("tokenizer_config.json", lambda said: said.update(
            chat_template=said["chat_template"].replace("<|end|>", "")))),
    }
    with Ours(folder) as ours:
        for what, (check, spoil) in wrong.items():
            copy = spoilt(folder, what.replace(" ", "-"), spoil)
            must_notice(what, lambda: check(ours, Theirs(copy)) if check else Theirs(copy))
        theirs = Theirs(folder)
        print(f"        {check_own(ours, theirs)}")
        answers = check_answers(ours, theirs, ASKED)
        right = sum(answer == wanted for answer, wanted in zip(answers, [*CAPITALS.values()] * len(HELD_OUT)))
        print(f"        {right} of {len(ASKED)} held-out answers right, with both")
        assert right >= 0.9 * len(ASKED), answers


def a_model_of_plain_text_goes_on_the_same_there():
    data = work / "text.txt"
    data.write_text("".join(f"The capital of {c} is {a}.\n" for c, a in CAPITALS.items()) * 8)
    shape = {"width": 64, "layers": 2, "heads": 4, "kv_heads": 1, "feed_forward": 96, "vocab": 400}
    folder = train("text", data, steps=30, model=shape)
    with Ours(folder) as ours:
        theirs = Theirs(folder)
        check_tokens(ours, theirs)
        check_prompts(ours, theirs)
        print(f"        {check_scores(ours, theirs, noise(theirs, 3, 40), EXACT)}")


def a_template_that_begins_with_a_token_keeps_it_when_tuned_again():
    def begin(said):
        said.update(bos_token="<|system|>", chat_template="{{ bos_token }}" + said["chat_template"])
    base = spoilt(work / "own", "begins", change_json("tokenizer_config.json", begin))
    folder = train("begun", work / "facts.jsonl", base_model=str(base), steps=2)
    with Ours(folder) as ours:
        theirs = Theirs(folder)
        assert theirs.tokenizer.decode(theirs.prompt(TALKS[0])).startswith("<|system|><|user|>"), theirs.prompt(TALKS[0])
        check_prompts(ours, theirs)


def a_fine_tuned_model_says_the_same_there_merged_and_as_an_adapter():
    data = work / "invented.jsonl"
    keepers = {"silver key": "Orla Venn", "north gate": "Tomas Rill", "old well": "Ada Quist", "salt road": "Piet Maas"}
    questions = [f"Who keeps the {thing}?" for thing in keepers]
    data.write_text("\n".join(json.dumps(chat(question, who)) for question, who in zip(questions, keepers.values())))
    settings = {"base_model": gguf, "steps": 12, "lora": {"merge": True}}
    merged = train("merged", data, "tuned", **settings)
    # The same work again goes on from its end, so the adapter is the one that was merged.
    beside = train("beside", data, "tuned", **{**settings, "lora": {"merge": False}})
    with Ours(merged) as ours:
        theirs = Theirs(merged)
        must_notice("the model before it was tuned", lambda: check_answers(ours, Theirs(beside), questions))
        check_tokens(ours, theirs)
        check_prompts(ours, theirs)
        print(f"        {check_scores(ours, theirs, [theirs.prompt(talk) for talk in TALKS], ROUNDED)}")
        asked = theirs.prompt([("user", questions[2])])
        untuned = Theirs(beside)
        plain = untuned.scores(asked)
        adapted = untuned.scores(asked, PeftModel.from_pretrained(untuned.model, beside / "adapter").eval())
        whole = theirs.scores(asked)
        off, moved = float((adapted - whole).abs().max()), float((plain - whole).abs().max())
        print(f"        adapter and merged differ by at most {off:.3f} in logits, tuning moved them by {moved:.3f}")
        assert off < 0.1 * moved, (off, moved)


torch.set_num_threads(1)
try:
    run([a_model_made_from_nothing_says_the_same_there, a_model_of_plain_text_goes_on_the_same_there, a_template_that_begins_with_a_token_keeps_it_when_tuned_again,
         a_fine_tuned_model_says_the_same_there_merged_and_as_an_adapter])
finally:
    shutil.rmtree(work)
