/**
 * What Docker's API does beneath ordinary HTTP: connections taken over for raw streams ("hijacked"), with or without an
 * `Upgrade` header, and the frames that carry stdout and stderr on one stream. Knows nothing of containers.
 */
export { encodeFrame, FrameDecoder, type FrameStream } from "./frames.ts";
export { openFront } from "./front.ts";
export { acceptHijack, type Hijacked, readUpgradeBody, refuseHijack } from "./hijack.ts";
