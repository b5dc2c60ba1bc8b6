/** What the service sends to the process of its database, one at a time. */
export type Question =
  | { readonly type: "top-products"; readonly country: string }
  | { readonly type: "order"; readonly country: string; readonly productId: number; readonly cents: number }
  | { readonly type: "count-queries" };

/** The answer to the last question; the first one, to none, says that the database is ready. */
export interface Answer {
  readonly result?: unknown;
  readonly error?: string;
}
