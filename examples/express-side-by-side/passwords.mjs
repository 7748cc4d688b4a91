// Passwords, hashed with scrypt: N=2^15 r=8 p=3, as the OWASP Password Storage Cheat Sheet has it.
//
//   node passwords.mjs 'a password'      prints what belongs into users.json
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto'
import { argv } from 'node:process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const OCTETS = 32
const COST = { N: 2 ** 15, r: 8, p: 3, maxmem: 64 * 1024 * 1024 }
const derive = promisify(scrypt)
const nobody = { salt: randomBytes(16).toString('base64'), hash: randomBytes(OCTETS).toString('base64') }

export async function hashed(password) {
  const salt = randomBytes(16)
  return { salt: salt.toString('base64'), hash: (await derive(password, salt, OCTETS, COST)).toString('base64') }
}

/** Whether this is the user's password. For a user that is not there it takes as long, and says no. */
export async function isRight(password, user) {
  const { salt, hash } = user?.password ?? nobody
  const derived = await derive(password, Buffer.from(salt, 'base64'), OCTETS, COST)
  return timingSafeEqual(derived, Buffer.from(hash, 'base64')) && user !== undefined
}

if (argv[1] === fileURLToPath(import.meta.url)) console.log(JSON.stringify(await hashed(argv[2])))
