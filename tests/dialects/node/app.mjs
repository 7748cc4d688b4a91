// The real express-session over a real store, told by each request what its handler is to do.
//
//   node app.mjs '{"session": {…options…}, "store": {"kind": "connect-redis", "url": "redis://…", "options": {…}}}'
//
// Prints its port, then serves until it is ended. Fields of a request: x-ops is the handler's program, base64url of a JSON list of
// operations; x-now is the time in milliseconds, for all of JavaScript, from here on (without it: the real one).
//   /__log     what the store was asked since the last time, in order     /__flush     does nothing, when all that came is done
import http from 'node:http'
import session from 'express-session'
import { openStore } from './stores.mjs'

const config = JSON.parse(process.argv[2])
const RealDate = Date
let now = null
globalThis.Date = class Date extends RealDate {
  constructor(...given) {
    given.length ? super(...given) : super(now ?? RealDate.now())
  }
  static now() { return now ?? RealDate.now() }
}

const store = await openStore(config.store ?? { kind: 'memory' }, session)
const log = []
for (const verb of ['get', 'set', 'destroy', 'touch']) {
  const asked = store[verb]
  if (!asked) continue
  store[verb] = function (sid, ...rest) {
    const entry = [verb, sid]
    if (verb === 'set') entry.push(JSON.parse(JSON.stringify(rest[0])))
    log.push(entry)
    if (config.broken?.includes(verb)) return setImmediate(rest.at(-1), new Error(`${verb} is broken`))
    return asked.call(this, sid, ...rest)
  }
}
if (config.store?.withoutTouch) store.touch = undefined

const options = { ...config.session }
if (options.cookie?.expires) options.cookie.expires = new Date(options.cookie.expires)
if (options.ids) { const ids = [...options.ids]; options.genid = () => ids.shift(); delete options.ids }
const sessions = session({ ...options, store })

const call = (target, verb) => new Promise((done) => target[verb]((error) => done(error ? String(error.message) : null)))
const place = (data, path) => path.slice(0, -1).reduce((at, key) => at[key], data)

const operations = {
  set: (req, path, value) => { place(req.session, path)[path.at(-1)] = value },
  delete: (req, path) => { delete place(req.session, path)[path.at(-1)] },
  push: (req, path, value) => { place(req.session, path)[path.at(-1)].push(value) },
  date: (req, key, ms) => { req.session[key] = new Date(ms) },
  get: (req, key) => req.session[key] ?? null,
  regenerate: (req) => call(req.session, 'regenerate'),
  destroy: (req) => call(req.session, 'destroy'),
  save: (req) => call(req.session, 'save'),
  reload: (req) => call(req.session, 'reload'),
  touch: (req) => { req.session.touch() },
  maxAge: (req, ms) => { req.session.cookie.maxAge = ms },
  expires: (req, ms) => { req.session.cookie.expires = ms === null ? null : new Date(ms) },
  cookie: (req, name, value) => { req.session.cookie[name] = value },
  forget: (req, how) => { if (how === 'delete') delete req.session; else req.session = how === 'null' ? null : undefined },
  write: (req, res) => {},
  status: (req, code, res) => {},
  header: (req, name, value) => {},
  throw: () => { throw new Error('the handler failed') },
}

async function handle(req, res) {
  const results = []
  for (const [name, ...given] of JSON.parse(Buffer.from(req.headers['x-ops'] ?? 'W10', 'base64url'))) {
    if (name === 'write') res.write(' ')
    else if (name === 'status') res.statusCode = given[0]
    else if (name === 'header') res.appendHeader(given[0], given[1])
    else {
      let result
      try { result = await operations[name](req, ...given) }
      catch (error) { if (name === 'throw') throw error; result = `${error.name}: ${error.message}` }
      results.push(result ?? null)
    }
  }
  const here = req.session
  res.end(JSON.stringify({
    has: here != null, id: req.sessionID ?? null, results, data: here == null ? null : here,
    maxAge: here == null ? null : here.cookie.maxAge ?? null,
  }))
}

let going = 0
const server = http.createServer((req, res) => {
  if (req.url === '/__log') return res.end(JSON.stringify(log.splice(0)))
  if (req.url === '/__flush') return setImmediate(function wait() { going ? setTimeout(wait, 1) : res.end('{}') })
  if (req.headers['x-now']) now = Number(req.headers['x-now'])
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
