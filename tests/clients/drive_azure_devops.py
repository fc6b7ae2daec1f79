"""Drives Microsoft's azure-devops for Python; takes and prints what drive_azure_devops.mjs does.

It keeps what it discovers in the home folder, by URL.
"""

import json
import os
import sys

from azure.devops.connection import Connection
from msrest.authentication import BasicAuthentication
from msrest.exceptions import ClientException

verb, url, *arguments = sys.argv[1:]
connection = Connection(base_url=url, creds=BasicAuthentication("", os.environ["CLIENT_PASSWORD"]))


def git():
    return connection.clients.get_git_client()


def shown(repository):
    return {
        "id": repository.id,
        "name": repository.name,
        "remoteUrl": repository.remote_url,
        "defaultBranch": repository.default_branch,
        "project": repository.project.name,
    }


def connect():
    location = connection.clients_v7_1.get_location_client()
    return location.get_connection_data().authenticated_user.provider_display_name


def projects():
    return [project.name for project in connection.clients.get_core_client().get_projects()]


def repositories(project):
    return [repository.name for repository in git().get_repositories(project)]


def refs(project, name):
    return {ref.name: ref.object_id for ref in git().get_refs(name, project)}


def create(project, name):
    return shown(git().create_repository({"name": name}, project))


def update(project, name, field, value):
    client = git()
    id = client.get_repository(name, project).id
    return shown(client.update_repository({field: value}, id, project))


def move(project, name, ref, old, new):
    change = {"name": ref, "oldObjectId": old, "newObjectId": new}
    (result,) = git().update_refs([change], name, project)
    return {"success": result.success, "status": result.update_status}


def delete(project, name):
    client = git()
    client.delete_repository(client.get_repository(name, project).id, project)


verbs = {f.__name__: f for f in (connect, projects, repositories, refs, create, update, move, delete)}
report = {}
try:
    report["value"] = verbs[verb](*arguments)
    report["ok"] = True
except ClientException as error:
    report["ok"] = False
    report["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(report))
