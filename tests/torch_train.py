"""What a tenant would bring: a small PyTorch training, on a GPU where there is one. Learns to spell the file it is given, and
says what it finds around it. Prints JSON lines.

usage: torch_train.py FILE HOST:PORT"""

import json
import os
import socket
import sys
import time

import torch
from torch.utils.data import DataLoader, Dataset

WINDOW, STEPS = 8, 120
#: A GPU's joules are called measured from ten seconds on: too few samples of its sensor fall into less.
MEASURED_FROM_S = 12


def say(**facts):
    print(json.dumps(facts), flush=True)


def reach(address):
    """What comes of a try to reach somebody over the network."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        return f"refused: {error}"
    return "reached"


class Windows(Dataset):
    """Some bytes, and the one that comes next."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return STEPS * 32

    def __getitem__(self, index):
        at = index * 7919 % (len(self.data) - WINDOW)
        return self.data[at:at + WINDOW], self.data[at + WINDOW]


def work_on(until):
    """Keeps the GPU busy until then."""
    square = torch.randn(2048, 2048, device="cuda")
    while time.monotonic() < until:
        square = torch.nn.functional.normalize(square @ square)
        torch.cuda.synchronize()


def main():
    began = time.monotonic()
    data = torch.tensor(list(open(sys.argv[1], "rb").read()))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    torch.set_num_threads(2)
    say(torch=torch.__version__, threads=torch.get_num_threads(), device=device, name=torch.cuda.get_device_name() if device == "cuda" else "",
        gpus=torch.cuda.device_count(), network=reach(sys.argv[2]), user=os.getuid(), processes=len([p for p in os.listdir("/proc") if p.isdigit()]))
    net = torch.nn.Sequential(torch.nn.Embedding(256, 32), torch.nn.Flatten(), torch.nn.Linear(32 * WINDOW, 256), torch.nn.ReLU(),
                              torch.nn.Linear(256, 256)).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    # The worker is a process of its own, and hands batches over through shared memory.
    for step, (seen, wanted) in enumerate(DataLoader(Windows(data), batch_size=32, num_workers=1), 1):
        loss = torch.nn.functional.cross_entropy(net(seen.to(device)), wanted.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 1 or step % 20 == 0:
            say(step=step, loss=round(loss.item(), 4))
    if device == "cuda":
        work_on(began + MEASURED_FROM_S)


main()
