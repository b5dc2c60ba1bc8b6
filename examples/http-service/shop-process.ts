import { PGlite } from "@electric-sql/pglite";
import { pg_stat_statements } from "@electric-sql/pglite/contrib/pg_stat_statements";
import { type Answer, type Asked, type Question, READY } from "./shop-messages.js";

// PostgreSQL needs nothing installed here, but it computes on the thread that it is called on. In a process of its own it
// keeps the event loop of the service free, as a database on another machine would.

// An interrupt at the terminal reaches this process too; the service ends it when its own work is done.
process.on("SIGINT", () => undefined);
// In memory: there is nothing to save.
process.once("disconnect", () => process.exit());

const TOP_PRODUCTS = `
  select p.name, count(*)::int as orders, sum(o.cents)::int as cents,
    percentile_disc(0.5) within group (order by o.cents) as "medianCents"
  from orders o join products p on p.id = o.product_id
  where o.country = $1
  group by p.name order by cents desc limit 3`;

const REVENUE = "select count(*)::int as orders, sum(cents)::float8 as cents from orders where country = $1";
const PRODUCTS = "select id, name from products where id = any($1)";

const database = await PGlite.create({ extensions: { pg_stat_statements } });
await database.exec(`
  create extension pg_stat_statements;
  create table products (id int primary key, name text not null);
  create table orders (product_id int not null, country text not null, cents int not null);
  insert into products select id, 'Product ' || id from generate_series(1, 500) id;
  insert into orders
    select 1 + i / 4 % 500, (array['de', 'fr', 'gb', 'it'])[1 + i % 4], 100 + i * 7919 % 9900
    from generate_series(1, 200000) i;
  analyze;
  select pg_stat_statements_reset();
`);

async function answer(question: Question): Promise<unknown> {
  switch (question.type) {
    case "top-products":
      return (await database.query(TOP_PRODUCTS, [question.country])).rows;
    case "revenue":
      return (await database.query(REVENUE, [question.country])).rows[0];
    case "products":
      return (await database.query(PRODUCTS, [question.ids])).rows;
    case "order": {
      const { productId, country, cents } = question;
      const insert = "insert into orders (product_id, country, cents) values ($1, $2, $3)";
      await database.query(insert, [productId, country, cents]);
      return null;
    }
    case "count-queries": {
      // Counted by the database: what did not reach it cannot be in here.
      const count = "select coalesce(sum(calls), 0)::int as calls from pg_stat_statements where query ~ $1";
      const { rows } = await database.query<{ calls: number }>(count, ["^\\s*select .* from (orders|products) "]);
      return rows[0]?.calls;
    }
  }
}

const send = (answered: Answer) => process.send?.(answered);

process.on("message", ({ id, question }: Asked) => {
  answer(question).then(
    (result) => send({ id, result }),
    (error: unknown) => send({ id, error: String(error) }),
  );
});
send({ id: READY });
