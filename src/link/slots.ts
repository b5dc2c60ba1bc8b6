/** The part of a key that is hashed, if the key says so. */
export function hashTagOf(key: string): string | undefined {
  const open = key.indexOf("{");
  const close = open === -1 ? -1 : key.indexOf("}", open);
  return close > open + 1 ? key.slice(open + 1, close) : undefined;
}

const CRC_OF_BYTE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
  return crc;
});

/** Redis Cluster's hash slot: CRC16-CCITT (XMODEM) of the hash tag, or of the whole key, modulo 16384. */
export function slotOf(key: string): number {
  const hashed = hashTagOf(key) ?? key;
  let crc = 0;
  for (let i = 0; i < hashed.length; i++) {
    const code = hashed.charCodeAt(i);
    if (code > 127) return slotOfBytes(Buffer.from(hashed));
    crc = ((crc << 8) ^ CRC_OF_BYTE[(crc >> 8) ^ code]!) & 0xffff;
  }
  return crc % 16384;
}

function slotOfBytes(bytes: Buffer): number {
  let crc = 0;
  for (const byte of bytes) crc = ((crc << 8) ^ CRC_OF_BYTE[(crc >> 8) ^ byte]!) & 0xffff;
  return crc % 16384;
}
