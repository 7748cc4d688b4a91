// connect-mongo's own adapters, on what a test hands in: [[adapter, options, "encrypt" | "decrypt", text], …] of standard input.
import { createKrupteinAdapter, createWebCryptoAdapter } from 'connect-mongo'

let told = ''
for await (const piece of process.stdin) told += piece
const adapters = { kruptein: createKrupteinAdapter, web: createWebCryptoAdapter }
const answers = []
for (const [adapter, options, verb, text] of JSON.parse(told)) {
  try { answers.push([await adapters[adapter](options)[verb](text), null]) }
  catch (error) { answers.push([null, String(error.message ?? error)]) }
}
console.log(JSON.stringify(answers))
