// Drives Microsoft's azure-devops-node-api. A verb and its arguments, as in driver.py:
//
//     connect URL                                whose token it is
//     projects URL                               names of projects
//     repositories URL PROJECT                   names of repositories
//     refs URL PROJECT REPOSITORY                names of refs with their ids
//     create URL PROJECT NAME                    the new repository
//     update URL PROJECT REPOSITORY FIELD VALUE  the repository, of which one field was changed
//     move URL PROJECT REPOSITORY REF OLD NEW    what became of the ref
//     delete URL PROJECT REPOSITORY              nothing
//
// and one line of JSON: "ok", "value", or "error" with "status". The token comes in CLIENT_PASSWORD.

import { createRequire } from 'node:module'

// The module is not in a folder above this one, where a plain import would look.
const require = createRequire(`${process.env.CLIENT_MODULES}/`)
const devops = require('azure-devops-node-api')

const [verb, url, project, name, ...rest] = process.argv.slice(2)
const api = new devops.WebApi(url, devops.getPersonalAccessTokenHandler(process.env.CLIENT_PASSWORD))

// It answers 404 with null.
const found = value => {
  if (value === null) throw Object.assign(new Error('null'), { statusCode: 404 })
  return value
}

const shown = ({ id, name, remoteUrl, defaultBranch, project }) =>
  ({ id, name, remoteUrl, defaultBranch: defaultBranch ?? null, project: project.name })

const repository = async git => found(await git.getRepository(name, project))

const verbs = {
  async connect() {
    return (await api.connect()).authenticatedUser.providerDisplayName
  },
  async projects() {
    const core = await api.getCoreApi()
    return found(await core.getProjects()).map(project => project.name)
  },
  async repositories() {
    const git = await api.getGitApi()
    return found(await git.getRepositories(project)).map(repository => repository.name)
  },
  async refs() {
    const git = await api.getGitApi()
    const refs = found(await git.getRefs(name, project))
    return Object.fromEntries(refs.map(ref => [ref.name, ref.objectId]))
  },
  async create() {
    const git = await api.getGitApi()
    return shown(found(await git.createRepository({ name }, project)))
  },
  async update() {
    const git = await api.getGitApi()
    const [field, value] = rest
    const { id } = await repository(git)
    return shown(found(await git.updateRepository({ [field]: value }, id, project)))
  },
  async move() {
    const git = await api.getGitApi()
    const [ref, oldObjectId, newObjectId] = rest
    const [result] = found(await git.updateRefs([{ name: ref, oldObjectId, newObjectId }], name, project))
    // It reads names of statuses as numbers.
    const { GitRefUpdateStatus } = require('azure-devops-node-api/interfaces/GitInterfaces')
    const status = GitRefUpdateStatus[result.updateStatus]
    return { success: result.success, status: status[0].toLowerCase() + status.slice(1) }
  },
  async delete() {
    const git = await api.getGitApi()
    const { id } = await repository(git)
    await git.deleteRepository(id, project)
  }
}

const report = {}
try {
  report.value = (await verbs[verb]()) ?? null
  report.ok = true
} catch (error) {
  if (error instanceof TypeError) throw error
  report.ok = false
  report.error = error.message
  report.status = error.statusCode ?? null
}
console.log(JSON.stringify(report))
