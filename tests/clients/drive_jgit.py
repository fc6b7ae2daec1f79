"""JGit's command line, which Debian packages. Its credential comes from ~/.netrc; Java trusts what a key store has."""

import glob
import json
import os
import shutil
import subprocess
import sys

import driver

STORE_PASSWORD = "changeit"


def write_credential():
    """Puts the credential where JGit's command line looks for one before it opens a dialogue."""
    path = os.path.join(os.environ["HOME"], ".netrc")
    pair = driver.credential()
    with open(path, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        if pair is not None:
            file.write(f"machine 127.0.0.1 login {pair[0]} password {pair[1]}\n")


def key_store():
    store = os.path.join(os.environ["HOME"], "authorities")
    if not os.path.exists(store):
        subprocess.run(
            ["keytool", "-importcert", "-noprompt", "-file", os.environ["CLIENT_CA"], "-keystore", store,
             "-storepass", STORE_PASSWORD],
            check=True, capture_output=True)
    return store


def jgit(*arguments):
    if not (shutil.which("jgit") and shutil.which("keytool")):
        sys.exit("there is no jgit, or no Java: run scripts/test, which installs Debian's")
    java = [
        f"-Djavax.net.ssl.trustStore={key_store()}",
        f"-Djavax.net.ssl.trustStorePassword={STORE_PASSWORD}",
        f"-Duser.home={os.environ['HOME']}",
        # Short runs: compiling the hot spots costs more than it saves.
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
    ]
    # Debian's script names fewer archives than the program loads.
    archives = []
    for prefix in ("org.eclipse.jgit", "httpc", "commons-"):
        archives += glob.glob(f"/usr/share/java/{prefix}*.jar")
    environment = os.environ | {"java_args": " ".join(java), "JGIT_CLASSPATH": ":".join(sorted(archives))}
    return subprocess.run(["jgit", *arguments], env=environment, capture_output=True, text=True, check=False)


def main():
    verb, place, *rest = sys.argv[1:]
    write_credential()
    if verb == "list":
        run = jgit("ls-remote", place)
    elif verb == "clone":
        run = jgit("clone", place, *rest)
    else:
        run = jgit("--git-dir", os.path.join(place, ".git"), verb, "origin", *rest)
    lines = (run.stderr + run.stdout).splitlines()
    text = "\n".join(line for line in lines if not line.startswith(("SLF4J", "\tat ", "\t...")))
    # A push whose refs were refused ends with status 0 as well.
    report = {"ok": run.returncode == 0 and "rejected]" not in run.stdout}
    if verb == "list" and report["ok"]:
        report["refs"] = {name: id for id, name in (line.split() for line in run.stdout.splitlines())}
    report["said" if report["ok"] else "error"] = text
    print(json.dumps(report))


main()
