// connect-mongo, with functions by name, since JSON carries none: transformId 'upside'; cryptoAdapter {web: {…}} or {kruptein: {…}}.
import { MongoStore, createKrupteinAdapter, createWebCryptoAdapter } from 'connect-mongo'

const transforms = { upside: (sid) => [...sid].reverse().join('') }

export async function openMongo({ url, options = {} }) {
  const { transformId, cryptoAdapter: { web, kruptein } = {}, ...rest } = options
  if (transformId) rest.transformId = transforms[transformId]
  if (web || kruptein) rest.cryptoAdapter = web ? createWebCryptoAdapter(web) : createKrupteinAdapter(kruptein)
  const store = MongoStore.create({ mongoUrl: url, ...rest })
  await store.collectionP
  return store
}
