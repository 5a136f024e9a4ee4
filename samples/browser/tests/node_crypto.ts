/** Node.js 18 has no global `crypto`, which browsers and later versions have. */
import { webcrypto } from "node:crypto";

if (!("crypto" in globalThis)) Object.defineProperty(globalThis, "crypto", { value: webcrypto });
