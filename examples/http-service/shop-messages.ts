/** What the service asks the process of its database. */
export type Question =
  | { readonly type: "top-products"; readonly country: string }
  | { readonly type: "revenue"; readonly country: string }
  | { readonly type: "products"; readonly ids: readonly number[] }
  | { readonly type: "order"; readonly country: string; readonly productId: number; readonly cents: number }
  | { readonly type: "count-queries" };

export interface Asked {
  readonly id: number;
  readonly question: Question;
}

/** The answer to the question of that id. */
export interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/** The id of the answer to no question: the database is ready. */
export const READY = 0;
