// What the npm package jose says. One JSON request on stdin, one JSON answer on stdout.
// Each of a list:
//   {"do": "sign", "alg", "jwk", "header", "claims"} -> a token
//   {"do": "verify", "alg", "jwks", "token", "issuer", "audience", "now"} -> its claims
import { createLocalJWKSet, importJWK, jwtVerify, SignJWT, calculateJwkThumbprint } from 'jose'
import { readFileSync } from 'node:fs'

const asked = JSON.parse(readFileSync(0, 'utf-8'))
const acts = {
  async sign({ alg, jwk, header, claims }) {
    return await new SignJWT(claims).setProtectedHeader({ ...header, alg }).sign(await importJWK(jwk, alg))
  },
  async verify({ alg, jwks, token, issuer, audience, now }) {
    // A shared secret is no member of a set that is looked up: it is given by itself.
    const key = jwks.keys[0].kty === 'oct' ? await importJWK(jwks.keys[0], alg) : createLocalJWKSet(jwks)
    const options = { algorithms: [alg], issuer, audience, typ: 'at+jwt', currentDate: new Date(now * 1000) }
    return (await jwtVerify(token, key, options)).payload
  },
  async thumbprint({ jwk }) {
    return await calculateJwkThumbprint(jwk)
  },
}
const answers = []
for (const one of asked) answers.push(await acts[one.do](one))
process.stdout.write(JSON.stringify(answers))
