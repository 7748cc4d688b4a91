// connect-redis over the `redis` package: one server by its `url`, or a Cluster by the URLs of some `nodes`.
//
// JSON has no functions: `ttlOf` names a key of the session that holds the seconds, for what the option `ttl` may be as a function;
// `base64` has sessions written in that, behind something random, by the option `serializer`.
import { randomUUID } from 'node:crypto'
import { RedisStore } from 'connect-redis'
import { createClient, createCluster } from 'redis'

export async function openRedis({ url, nodes, ttlOf, base64, options }) {
  const client = nodes ? createCluster({ rootNodes: nodes.map((url) => ({ url })) }) : createClient({ url })
  client.on('error', () => {})
  await client.connect()
  const more = {}
  if (ttlOf) more.ttl = (sess) => sess[ttlOf]
  if (base64) more.serializer = {
    stringify: (sess) => `${randomUUID()}.${Buffer.from(JSON.stringify(sess)).toString('base64')}`,
    parse: async (text) => JSON.parse(Buffer.from(text.split('.')[1], 'base64')),
  }
  return new RedisStore({ client, ...options, ...more })
}
