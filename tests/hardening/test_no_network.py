"""Nothing is fetched, looked up or sent: from the command line to the page of a report, not even tried."""

import json

from hostile import child

from napari_metaqsm.io.resources import resource

# The audit hook hears of every name that is looked up and every connection that is begun, by whomever.
OFFLINE = """
import runpy
tried = []
WATCHED = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request",
           "http.client.connect", "ftplib.connect", "smtplib.connect")

def watch(event, arguments):
    if event in WATCHED and watching:
        tried.append(f"{event} {arguments[1:]}")
        raise OSError("there is no network here")

watching = True
sys.addaudithook(watch)
import socket, urllib.request
for ask in (lambda: socket.create_connection(("127.0.0.1", 9)), lambda: urllib.request.urlopen("http://localhost")):
    try:
        ask()
    except OSError:
        pass
heard = len(tried)
tried.clear()
from napari_metaqsm.cli import main
codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["metaqsm", *arguments]
    try:
        main()
    except SystemExit as ended:
        codes.append(ended.code or 0)
print(json.dumps([heard, tried, codes]))
"""


def test_the_whole_chain_and_its_report_try_no_connection(tmp_path):
    """With the brain mask, whose network and weights come as a package."""
    head = str(resource("samples/philips_2echo"))
    maps = str(tmp_path / "maps")
    commands = [
        ["methods"],
        [
            "run",
            head,
            "--fit",
            "weighted_mean",
            "--mask",
            "brain",
            "--invert",
            "tkd",
            "--out",
            maps,
            "--quiet",
        ],
        ["report", maps, "--inputs", head, "--html", "--quiet"],
    ]
    ended = child(OFFLINE, json.dumps(commands), timeout=120)
    assert ended.code == 0, ended.err
    heard, tried, codes = ended.value
    assert heard >= 2, "the hook hears of what is tried"
    assert tried == []
    assert codes == [0, 0, 0], ended.err
    assert (tmp_path / "maps/mask.nii.gz").exists()
    assert "http" not in (tmp_path / "maps/report.html").read_text().replace("https://doi.org", "").replace(
        "http://www.w3.org", ""
    )
