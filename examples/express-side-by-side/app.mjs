// The Express side: the shop, and the only login form. Nothing in it knows of Python.
//
//   REDIS_URL=redis://… SESSION_SECRET=… PORT=3000 node app.mjs
import { readFileSync } from 'node:fs'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import util from 'node:util'
import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import nunjucks from 'nunjucks'
import passport from 'passport'
import { Strategy } from 'passport-local'
import { createClient } from 'redis'
import { csrfToken, ownFormsOnly } from './csrf.mjs'
import { isRight } from './passwords.mjs'

util.isArray = Array.isArray // connect-flash calls it, Node 22 warns of it, Node 23 has no more of it
const { default: flash } = await import('connect-flash')

const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const read = (name) => JSON.parse(readFileSync(here(name), 'utf8'))
const [products, users] = [read('shop.json'), read('users.json')]

const redis = createClient({ url: process.env.REDIS_URL })
redis.on('error', (error) => console.error(`redis: ${error.message}`))
await redis.connect()

const app = express()
app.disable('x-powered-by')
app.set('trust proxy', 'loopback') // nginx
app.set('view engine', 'html')
nunjucks.configure(here('views'), { express: app, throwOnUndefined: true })
app.use('/static', express.static(here('static')))

// ------------------------------------------------------------------------------------------------------- the sessions

app.use(session({
  store: new RedisStore({ client: redis }),
  secret: process.env.SESSION_SECRET,
  resave: false,
  saveUninitialized: false,
  cookie: { maxAge: 24 * 60 * 60 * 1000, sameSite: 'lax', secure: 'auto' },
}))
passport.use(new Strategy(async (login, password, done) => {
  const user = users.find((one) => one.login === login)
  done(null, (await isRight(password, user)) && user)
}))
passport.serializeUser((user, done) => done(null, user.id)) // session.passport.user, which is session.user_id in Python
passport.deserializeUser((id, done) => done(null, users.find((one) => one.id === id) ?? false))
app.use(passport.session())
app.use(flash())
app.use(express.urlencoded({ extended: false, limit: '16kb' }))
app.use(ownFormsOnly)

// ---------------------------------------------------------------------------------------------------------- the pages

function page(req, res, view) {
  const told = Object.entries(req.flash()).flatMap(([kind, texts]) => texts.map((text) => ({ kind, text })))
  const csrf = csrfToken(req)
  const { cookie, ...data } = req.session
  res.set('Cache-Control', 'no-store').render(view, {
    side: 'Express', base: '', here: req.path, told, csrf, user: req.user?.name ?? null,
    products, count: pieces(req.session.cart), held: JSON.stringify({ ...data, csrfToken: '…' }, null, 2),
  })
}

const pieces = (cart = {}) => Object.values(cart).reduce((sum, quantity) => sum + quantity, 0)

/** The browser goes on when it has the headers, and express-session stores at the end: so store first, or the next page is old. */
function goOn(req, res, next, where) {
  req.session.save((error) => (error ? next(error) : res.redirect(303, where)))
}

app.get('/', (req, res) => page(req, res, 'shop'))
app.get('/login', (req, res) => (req.user ? res.redirect('/account/') : page(req, res, 'login')))

app.post('/login', (req, res, next) => {
  passport.authenticate('local', (error, user) => {
    if (error) return next(error)
    if (!user) {
      req.flash('error', 'The name or the password is wrong.')
      return goOn(req, res, next, '/login')
    }
    const { cart } = req.session // Passport begins a new session at a login: a cart is worth taking along
    req.logIn(user, (failed) => {
      if (failed) return next(failed)
      if (cart) req.session.cart = cart
      req.flash('info', `Welcome, ${user.name}. Express checked your password, and left this message.`)
      goOn(req, res, next, '/account/')
    })
  })(req, res, next)
})

app.post('/cart', (req, res, next) => {
  const product = products.find((one) => one.id === req.body.product)
  if (!product) return next(Object.assign(new Error('There is no such thing in the shop.'), { status: 400 }))
  const cart = req.session.cart ?? {}
  req.session.cart = { ...cart, [product.id]: Math.min((cart[product.id] ?? 0) + 1, 99) }
  req.flash('info', `${product.name}: one more in the cart. Express did that.`)
  goOn(req, res, next, '/')
})

app.post('/logout', (req, res, next) => {
  req.logOut((error) => {
    if (error) return next(error)
    req.flash('info', 'You are logged out. Express did that, and left this message.')
    goOn(req, res, next, '/account/')
  })
})

app.use((req, res, next) => next(Object.assign(new Error('There is no such page.'), { status: 404 })))
app.use((error, req, res, next) => { // four arguments: that is how Express knows it
  const status = error.status ?? 500
  if (status === 500) console.error(error)
  const message = status === 500 ? 'Something failed here.' : error.message
  res.status(status).render('notice', { side: 'Express', base: '', here: '', told: [], csrf: '', user: null, held: '', message })
})

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
process.on('SIGTERM', () => server.close(() => process.exit()))
