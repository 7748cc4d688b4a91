// The real express-session over a real store, told by each request what its handler is to do.
//
//   node app.mjs '{"session": {…options…}, "store": {"kind": "connect-redis", "url": "redis://…", "options": {…}}}'
//
// Prints its port, then serves until it is ended. Fields of a request: x-ops is the handler's program, base64url of a JSON list of
// operations; x-now is the time in milliseconds, for all of JavaScript, from here on (without it: the real one).
//   /__log     what the store was asked since the last time, in order     /__flush     does nothing, when all that came is done
//   /__reached?name     answers when a request waits there (["wait", name])     /__go?name     lets it go on
import http from 'node:http'
import session from 'express-session'
import { go, handle, reached } from './handler.mjs'
import { openStore } from './stores.mjs'
import { clock, configured, watched } from './world.mjs'

const config = JSON.parse(process.argv[2])
const store = await openStore(config.store ?? { kind: 'memory' }, session)
const log = watched(store, config.broken)
if (config.store?.withoutTouch) store.touch = undefined
const sessions = session({ ...configured(config.session), store })

let going = 0
const server = http.createServer((req, res) => {
  if (req.url === '/__log') {
    return res.end(JSON.stringify(log.splice(0).map(([verb, sid, body]) => (body ? [verb, sid, JSON.parse(body)] : [verb, sid]))))
  }
  if (req.url === '/__flush') return setImmediate(function wait() { going ? setTimeout(wait, 1) : res.end('{}') })
  const [path, name] = req.url.split('?')
  if (path === '/__reached') return void reached(name).then(() => res.end('{}'))
  if (path === '/__go') { go(name); return res.end('{}') }
  if (req.headers['x-now']) clock.now = Number(req.headers['x-now'])
  going += 1
  res.on('close', () => { going -= 1 })
  if (config.express) req.secure = req.headers['x-secure'] === 'yes'
  const fail = (error) => {
    if (res.headersSent) return res.end()
    res.statusCode = error.status ?? 500
    res.end(JSON.stringify({ error: error.message }))
  }
  sessions(req, res, (error) => (error ? fail(error) : handle(req, res).catch(fail)))
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.on('SIGTERM', () => process.exit(0))
