"""libgit2, through pygit2."""

import os
import tempfile

import pygit2

import driver

report = {"asked": 0, "said": ""}


class Callbacks(pygit2.RemoteCallbacks):
    """Has one credential to offer; a stubborn one offers it as often as it is asked, which many programs do."""

    def credentials(self, url, username_from_url, allowed_types):
        report["asked"] += 1
        credential = driver.credential()
        if credential is None or (report["asked"] > 1 and "CLIENT_IS_STUBBORN" not in os.environ):
            raise pygit2.Passthrough
        return pygit2.UserPass(*credential)

    def sideband_progress(self, string):
        report["said"] += string

    def push_update_reference(self, refname, message):
        if message is not None:
            raise pygit2.GitError(f"{refname}: {message}")


def list_refs(url):
    with tempfile.TemporaryDirectory() as folder:
        remote = pygit2.init_repository(folder, bare=True).remotes.create_anonymous(url)
        report["refs"] = {head.name: str(head.oid) for head in remote.list_heads(callbacks=Callbacks())}


def clone(url, folder):
    pygit2.clone_repository(url, folder, callbacks=Callbacks())


def fetch(folder):
    pygit2.Repository(folder).remotes["origin"].fetch(callbacks=Callbacks())


def push(folder, *refspecs):
    pygit2.Repository(folder).remotes["origin"].push(list(refspecs), callbacks=Callbacks())


pygit2.settings.set_ssl_cert_locations(os.environ["CLIENT_CA"], None)
driver.run({"list": list_refs, "clone": clone, "fetch": fetch, "push": push}, pygit2.GitError, report)
