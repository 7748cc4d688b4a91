// connect-session-sequelize on the database of a URL: postgres:, mariadb:, mysql:, sqlite:///absolute/path.
//
//   options    the package's own (check_expiration_interval is 0 here, if not said: a test that sleeps is no test)
//   sync       have it make its table
//   sequelize  more of Sequelize's options
//   userId     a model of the application's own, `table`, with a column userId, which extendDefaultFields fills from passport.user
import Database from 'libsql'
import sequelizeStore from 'connect-session-sequelize'
import { DataTypes, Sequelize } from 'sequelize'

export async function openSequelize({ url, options = {}, sync, sequelize = {}, userId }, session) {
  const told = { logging: false, ...sequelize }
  const db = url.startsWith('sqlite:')
    ? new Sequelize({ dialect: 'sqlite', storage: url.slice('sqlite://'.length), dialectModule: sqlite3, ...told })
    : new Sequelize(url, told)
  const given = { checkExpirationInterval: 0, ...options, db }
  if (userId) {
    given.table = 'Session'
    given.extendDefaultFields = (defaults, session) => ({ ...defaults, userId: session.passport?.user ?? null })
    db.define('Session', {
      sid: { type: DataTypes.STRING(36), primaryKey: true },
      userId: DataTypes.STRING(64),
      expires: DataTypes.DATE,
      data: DataTypes.TEXT,
    }, { tableName: options.tableName ?? 'Sessions' })
  }
  const store = new (sequelizeStore(session.Store))(given)
  if (sync) await store.sync()
  return store
}

// What Sequelize asks of the package sqlite3, whose own driver is built or fetched when it is installed: here over libsql, which npm
// brings ready made, with the locks and the file of SQLite.
const sqlite3 = {
  OPEN_READWRITE: 2,
  OPEN_CREATE: 4,
  Database: class {
    constructor(path, mode, opened) {
      this.filename = path
      this.db = new Database(path, { timeout: 5000 })
      setImmediate(opened, null)
    }
    serialize(work) { work() }
    close(closed) { this.db.close(); closed?.(null) }
    exec(sql, done) { this.#answer(done, () => { this.db.exec(sql) }) }
    run(sql, ...rest) { this.#ask(sql, rest, (statement, values) => statement.run(values)) }
    all(sql, ...rest) { this.#ask(sql, rest, (statement, values) => statement.all(values)) }
    #ask(sql, rest, how) {
      const done = typeof rest.at(-1) === 'function' ? rest.pop() : undefined
      const [given = []] = rest
      const values = Array.isArray(given) ? given : Object.fromEntries(Object.entries(given).map(([name, value]) => [name.slice(1), value]))
      this.#answer(done, () => {
        const statement = this.db.prepare(sql)
        return statement.reader ? statement.all(values) : how(statement, values)
      })
    }
    #answer(done, work) {
      let result
      try { result = work() } catch (error) { return done ? setImmediate(() => done.call({}, error)) : undefined }
      const told = { changes: result?.changes ?? 0, lastID: Number(result?.lastInsertRowid ?? 0) }
      if (done) setImmediate(() => done.call(told, null, Array.isArray(result) ? result : []))
    }
  },
}
