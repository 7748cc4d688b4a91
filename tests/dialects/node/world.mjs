// A clock that can be set, and stores that tell what they were asked.
const RealDate = Date
export const clock = { now: null }
globalThis.Date = class Date extends RealDate {
  constructor(...given) {
    given.length ? super(...given) : super(clock.now ?? RealDate.now())
  }
  static now() { return clock.now ?? RealDate.now() }
}

// What a store is asked from here on: [verb, id], and the body of a set. Verbs in `broken` fail.
export function watched(store, broken) {
  const log = []
  for (const verb of ['get', 'set', 'destroy', 'touch']) {
    const asked = store[verb]
    if (!asked) continue
    store[verb] = function (sid, ...rest) {
      const entry = [verb, sid]
      if (verb === 'set') entry.push(JSON.stringify(rest[0]))
      log.push(entry)
      if (broken?.includes(verb)) return setImmediate(rest.at(-1), new Error(`${verb} is broken`))
      return asked.call(this, sid, ...rest)
    }
  }
  return log
}

// The options of express-session, from what JSON can say of them. `ids` are what genid returns, one after the other.
export function configured({ ids, ...options }) {
  if (options.cookie?.expires) options.cookie = { ...options.cookie, expires: new Date(options.cookie.expires) }
  if (ids) { const left = [...ids]; options.genid = () => left.shift() }
  return options
}
