export interface User {
  readonly id: number;
  readonly name: string;
}

export interface Product {
  readonly id: number;
  readonly name: string;
  readonly brand: string;
}

/** Stands for a database, and counts what it is asked. */
export class Database {
  readonly #users = new Map<number, User>([1, 2, 3].map((id) => [id, { id, name: `User ${id}` }]));
  readonly #products = new Map<number, Product>(
    [1, 2, 3].map((id) => [id, { id, name: `Product ${id}`, brand: id < 3 ? "acme" : "zenith" }]),
  );
  #outbox: { readonly id: number; readonly key: string }[] = [];
  #lastId = 0;
  queries = 0;

  async user(id: number): Promise<User | null> {
    this.queries++;
    return this.#users.get(id) ?? null;
  }

  /** As a database gives rows: in an order of its own, and none for an id that it does not know. */
  async users(ids: readonly number[], signal?: AbortSignal): Promise<User[]> {
    signal?.throwIfAborted();
    this.queries++;
    return [...ids].reverse().flatMap((id) => this.#users.get(id) ?? []);
  }

  async products(ids: readonly number[], signal: AbortSignal): Promise<(Product | undefined)[]> {
    signal.throwIfAborted();
    this.queries++;
    return ids.map((id) => this.#products.get(id));
  }

  async productsOf(brand: string, page: number): Promise<Product[]> {
    this.queries++;
    const all = [...this.#products.values()].filter((product) => product.brand === brand);
    return all.slice((page - 1) * 10, page * 10);
  }

  async renameProduct(id: number, name: string): Promise<Product> {
    const renamed = { ...this.#products.get(id)!, name };
    this.#products.set(id, renamed);
    return renamed;
  }

  async renameUser(id: number, name: string): Promise<void> {
    this.#users.set(id, { id, name });
  }

  /** Both or nothing: one transaction. */
  async renameUserAndRemember(id: number, name: string, key: string): Promise<void> {
    this.#users.set(id, { id, name });
    this.#outbox.push({ id: ++this.#lastId, key });
  }

  async outbox(limit: number): Promise<readonly { readonly id: number; readonly key: string }[]> {
    return this.#outbox.slice(0, limit);
  }

  async removeFromOutbox(ids: readonly number[]): Promise<void> {
    this.#outbox = this.#outbox.filter(({ id }) => !ids.includes(id));
  }
}
