// A store of each package, from what JSON can say of it.
const kinds = {
  memory: (_, session) => new session.MemoryStore(),
  'connect-redis': async (wanted) => (await import('./redis.mjs')).openRedis(wanted),
  'connect-mongo': async (wanted) => (await import('./connect_mongo.mjs')).openMongo(wanted),
  'connect-pg-simple': async ({ url, by = 'pool', zone, options }, session) => {
    const Store = (await import('connect-pg-simple')).default(session)
    const where = { connectionString: url, ...(zone && { options: `-c TimeZone=${zone}` }) }
    const connection = by === 'conString' ? url : by === 'conObject' ? where : new (await import('pg')).default.Pool(where)
    return new Store({ [by]: connection, ...options })
  },
  'connect-session-sequelize': async (wanted, session) => (await import('./sequelize.mjs')).openSequelize(wanted, session),
}

export async function openStore(wanted, session) {
  const open = kinds[wanted.kind]
  if (!open) throw new Error(`no store ${wanted.kind}`)
  return open(wanted, session)
}
