"""What the drivers in Python share.

A driver does one thing that a user of its client does, named by its arguments:

    list URL                the refs of a repository
    clone URL FOLDER        all branches and tags, with a work tree
    fetch FOLDER            what is new in the remote of a clone
    push FOLDER REFSPEC...  "source:target", or ":target" to delete

and prints one line of JSON: "ok"; "error", as the client words it; "asked", how often the client wanted a credential,
where it can tell; "said", what the server said besides; "refs", names with ids, for list. It ends with status 0 when
the client came to an end of its own, good or bad. The credential comes in CLIENT_USER and CLIENT_PASSWORD, so that no
list of processes shows it; without them there is none. CLIENT_CA is the certificate authority to trust.
"""

import json
import os
import sys


def credential():
    """User name and password, or None."""
    if "CLIENT_PASSWORD" not in os.environ:
        return None
    return os.environ["CLIENT_USER"], os.environ["CLIENT_PASSWORD"]


def run(verbs, errors, report):
    """Does what the arguments say, with the functions in `verbs`; `errors` are how the client fails."""
    verb, *arguments = sys.argv[1:]
    try:
        verbs[verb](*arguments)
        report["ok"] = True
    except errors as error:
        report["ok"] = False
        report["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(report))
