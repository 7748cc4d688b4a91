// A handler that does what its request says: x-ops is base64url of a JSON list of operations.
const call = (target, verb) => new Promise((done) => target[verb]((error) => done(error ? String(error.message) : null)))
const place = (data, path) => path.slice(0, -1).reduce((at, key) => at[key], data)

// Requests that wait, by name. `reached`: answers when one does; `go`: lets it go on, also if it comes later.
const meeting = () => { let open; const done = new Promise((go) => { open = go }); return { done, open } }
const meetings = new Map()
const meet = (name) => meetings.get(name) ?? meetings.set(name, { reached: meeting(), gone: meeting() }).get(name)
export const reached = (name) => meet(name).reached.done
export const go = (name) => meet(name).gone.open()

const operations = {
  wait: (_, name) => { meet(name).reached.open(); return meet(name).gone.done },
  set: (req, path, value) => { place(req.session, path)[path.at(-1)] = value },
  delete: (req, path) => { delete place(req.session, path)[path.at(-1)] },
  move: (req, key) => { if (key in req.session) { const value = req.session[key]; delete req.session[key]; req.session[key] = value } },
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
  throw: () => { throw new Error('the handler failed') },
}

export async function handle(req, res) {
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

