// connect-redis over the `redis` package: one server by its `url`, or a Cluster by the URLs of some `nodes`.
//
// JSON has no functions: `ttlOf` names a key of the session that holds the seconds, for what the option `ttl` may be as a function.
import { RedisStore } from 'connect-redis'
import { createClient, createCluster } from 'redis'

export async function openRedis({ url, nodes, ttlOf, options }) {
  const client = nodes ? createCluster({ rootNodes: nodes.map((url) => ({ url })) }) : createClient({ url })
  client.on('error', () => {})
  await client.connect()
  const more = ttlOf ? { ttl: (sess) => sess[ttlOf] } : {}
  return new RedisStore({ client, ...options, ...more })
}
