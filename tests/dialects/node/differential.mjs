// The real express-session, for programs: one a line on stdin, its outcome a line on stdout.
//
//   {"session": {…options…, "ids": […]}, "withoutTouch": false, "express": true, "requests": [{"now", "path", "headers"}]}
import http from 'node:http'
import readline from 'node:readline'
import session from 'express-session'
import { handle } from './handler.mjs'
import { clock, configured, watched } from './world.mjs'

const agent = new http.Agent({ keepAlive: true })
let serve
const server = http.createServer((req, res) => serve(req, res))
await new Promise((ready) => server.listen(0, '127.0.0.1', ready))

function ask(path, headers) {
  return new Promise((done, fail) => {
    const asked = http.get({ port: server.address().port, host: '127.0.0.1', path, headers, agent }, (response) => {
      let text = ''
      response.on('data', (chunk) => { text += chunk })
      response.on('end', () => done({ status: response.statusCode, cookies: response.headers['set-cookie'] ?? [], text }))
    })
    asked.on('error', fail)
  })
}

async function run(program) {
  const store = new session.MemoryStore()
  const log = watched(store)
  if (program.withoutTouch) store.touch = undefined
  const sessions = session({ ...configured(program.session), store })
  serve = (req, res) => {
    if (program.express) req.secure = req.headers['x-secure'] === 'yes'
    const fail = (error) => {
      if (!res.headersSent) res.statusCode = 500
      res.end(JSON.stringify({ error: error.message }))
    }
    sessions(req, res, (error) => (error ? fail(error) : handle(req, res).catch(fail)))
  }
  const outcomes = []
  for (const { now, path, headers } of program.requests) {
    clock.now = now
    const answer = await ask(path, headers)
    await new Promise(setImmediate)
    outcomes.push({ ...answer, body: answer.text.trim() ? JSON.parse(answer.text) : null, asked: log.splice(0), stored: { ...store.sessions } })
  }
  return outcomes
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await run(JSON.parse(line))))
}
process.exit(0)
