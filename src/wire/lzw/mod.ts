/** LZW as memberlist's compress messages use it. Decides nothing but the byte format. */
export { compress, decompress } from "./codec.ts";
