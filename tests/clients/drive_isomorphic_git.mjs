// isomorphic-git on Node.js, which reads the authority to trust from NODE_EXTRA_CA_CERTS. See driver.py for what a
// driver takes and prints.

import fs from 'node:fs'
import { createRequire } from 'node:module'

// The module is not in a folder above this one, where a plain import would look.
const require = createRequire(`${process.env.CLIENT_MODULES}/`)
const git = require('isomorphic-git')
const http = require('isomorphic-git/http/node')

const report = { asked: 0, said: '' }
const { CLIENT_USER: username, CLIENT_PASSWORD: password } = process.env

const common = {
  fs,
  http,
  onAuth: () => {
    report.asked += 1
    return password === undefined ? { cancel: true } : { username, password }
  },
  // What is right after the first refusal is right after the second.
  onAuthFailure: () => {
    report.asked += 1
    return { cancel: true }
  },
  onMessage: text => {
    report.said += text
  }
}

const verbs = {
  async list(url) {
    const refs = await git.listServerRefs({ ...common, url, protocolVersion: Number(process.env.CLIENT_PROTOCOL ?? 2) })
    report.refs = Object.fromEntries(refs.map(({ ref, oid }) => [ref, oid]))
  },
  async clone(url, dir) {
    await git.clone({ ...common, url, dir, singleBranch: false })
  },
  async fetch(dir) {
    await git.fetch({ ...common, dir, remote: 'origin', tags: true })
  },
  async push(dir, ...refspecs) {
    // It pushes one ref at a time.
    for (const refspec of refspecs) {
      const [source, target] = refspec.replace(/^\+/, '').split(':')
      const force = refspec.startsWith('+')
      await git.push({ ...common, dir, remote: 'origin', force, ref: source || undefined, remoteRef: target, delete: source === '' })
    }
  }
}

const [verb, ...args] = process.argv.slice(2)
try {
  await verbs[verb](...args)
  report.ok = true
} catch (error) {
  if (!(error instanceof git.Errors[error.code ?? ''] ?? TypeError)) throw error
  report.ok = false
  report.error = `${error.code}: ${error.message}`
  report.said += error.data?.response ?? ''
}
console.log(JSON.stringify(report))
