/** SHA-256 in hex. The browser has it where the page came by https or from localhost. */
import { Refusal } from "../refusal";

export async function sha256(...parts: Uint8Array[]): Promise<string> {
  if (!globalThis.crypto?.subtle) {
    throw new Refusal("This page needs https, or an address on localhost: only there does a browser compute checksums.");
  }
  let whole = parts[0] ?? new Uint8Array();
  if (parts.length > 1) {
    whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
  }
  const digest = await crypto.subtle.digest("SHA-256", whole as BufferSource);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
