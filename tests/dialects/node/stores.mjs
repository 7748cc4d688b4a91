// A store of each package, from what JSON can say of it.
const kinds = {
  memory: (_, session) => new session.MemoryStore(),
  'connect-redis': async (wanted) => (await import('./redis.mjs')).openRedis(wanted),
  'connect-mongo': async (wanted) => (await import('./connect_mongo.mjs')).openMongo(wanted),
}

export async function openStore(wanted, session) {
  const open = kinds[wanted.kind]
  if (!open) throw new Error(`no store ${wanted.kind}`)
  return open(wanted, session)
}
