export interface SampleRecord {
  readonly id: number;
  readonly name: string;
  readonly email: string;
  readonly active: boolean;
  readonly score: number;
  readonly roles: readonly string[];
  readonly address: { readonly street: string; readonly city: string; readonly postcode: string };
  readonly note: string;
}

const RECORD_BYTES = 300;

/** About as many bytes of JSON as asked for: one record of 300 B as an API would answer, or a list of them. */
export function sampleValue(bytes: number): SampleRecord | { readonly items: readonly SampleRecord[] } {
  if (bytes <= RECORD_BYTES) return sampleRecord(0);
  return { items: Array.from({ length: Math.round(bytes / (RECORD_BYTES + 1)) }, (_, i) => sampleRecord(i)) };
}

function sampleRecord(id: number): SampleRecord {
  const record = {
    id,
    name: "Ada Lovelace",
    email: "ada@example.org",
    active: true,
    score: 98.25,
    roles: ["reader", "author", "editor"],
    address: { street: "12 St James's Square", city: "London", postcode: "SW1Y 4JH" },
    note: "",
  };
  return { ...record, note: "x".repeat(RECORD_BYTES - JSON.stringify(record).length) };
}
