// Forms that other sites cannot forge: a token in the session, which every form sends back. account.py looks at the same one, so a
// form is good on either side. It goes with the session at each login and logout.
import { randomBytes, timingSafeEqual } from 'node:crypto'

const SAFE = new Set(['GET', 'HEAD', 'OPTIONS'])

export function csrfToken(req) {
  req.session.csrfToken ??= randomBytes(32).toString('base64url')
  return req.session.csrfToken
}

export function ownFormsOnly(req, res, next) {
  if (SAFE.has(req.method) || isSame(req.body?.csrf_token, req.session.csrfToken)) return next()
  next(Object.assign(new Error('This form was not ours, or it is an old one. Load the page again, and repeat.'), { status: 403 }))
}

function isSame(sent, kept) {
  if (typeof sent !== 'string' || typeof kept !== 'string') return false
  const [left, right] = [Buffer.from(sent), Buffer.from(kept)]
  return left.length === right.length && timingSafeEqual(left, right)
}
