"""dulwich, through its porcelain. It finds the certificate authority in the configuration of its home."""

import io
import os

import dulwich.errors
import dulwich.porcelain
import dulwich.client

import driver

report = {"said": ""}
stream = io.BytesIO()


def credential():
    pair = driver.credential()
    return {} if pair is None else {"username": pair[0], "password": pair[1]}


def list_refs(url):
    found = dulwich.porcelain.ls_remote(url, **credential())
    report["refs"] = {name.decode(): id.decode() for name, id in found.refs.items()}


def clone(url, folder):
    # The newest version of the protocol that it knows, unless told otherwise.
    version = os.environ.get("CLIENT_PROTOCOL")
    version = None if version is None else int(version)
    dulwich.porcelain.clone(url, folder, errstream=stream, protocol_version=version, **credential()).close()


def fetch(folder):
    dulwich.porcelain.fetch(folder, "origin", errstream=stream, outstream=io.StringIO(), **credential())


def push(folder, *refspecs):
    sent = dulwich.porcelain.push(
        folder, "origin", list(refspecs), outstream=io.BytesIO(), errstream=stream, **credential())
    refused = {ref.decode(): why for ref, why in (sent.ref_status or {}).items() if why is not None}
    if refused:
        raise dulwich.porcelain.Error(str(refused))


errors = (
    dulwich.client.HTTPUnauthorized,
    dulwich.errors.GitProtocolError,
    dulwich.errors.NotGitRepository,
    dulwich.porcelain.Error,
)
driver.run({"list": list_refs, "clone": clone, "fetch": fetch, "push": push}, errors, report)
