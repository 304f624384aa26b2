import koffi, { type LibraryHandle } from "koffi";
import { EngineError, messageOf } from "../../base/errors.ts";

/** An opaque `struct nft_ctx *`. */
export type NftHandle = { readonly __nftContext: true };

/** nftables/libnftables.h: NFT_CTX_OUTPUT_HANDLE and NFT_CTX_OUTPUT_JSON. */
const outputFlags = { plain: 0, handles: 1 << 3, json: 1 << 4 } as const;
export type NftOutput = keyof typeof outputFlags;

export interface Libnftables {
  open(): NftHandle;
  free(handle: NftHandle): void;
  /** 0 when the whole transaction was applied. */
  run(handle: NftHandle, script: string): number;
  /** The same on a thread of the pool; one call at a time per handle. */
  runAside(handle: NftHandle, script: string): Promise<number>;
  output(handle: NftHandle): string;
  errors(handle: NftHandle): string;
  setOutput(handle: NftHandle, output: NftOutput): void;
}

let library: Libnftables | undefined;

/**
 * The user's own libnftables (GPL-2, never shipped with us), loaded on first use.
 * @throws {EngineError} `unavailable` when the machine has none.
 */
export function libnftables(): Libnftables {
  library ??= load();
  return library;
}

type Native<Args extends unknown[], Result> = ((...args: Args) => Result) & {
  async(...args: [...Args, (error: unknown, result: Result) => void]): void;
};

function load(): Libnftables {
  const lib = open();
  koffi.opaque("nft_ctx");
  const native = <Args extends unknown[], Result>(prototype: string) =>
    lib.func(prototype) as unknown as Native<Args, Result>;
  const create = native<[number], NftHandle>("nft_ctx *nft_ctx_new(uint32_t flags)");
  const free = native<[NftHandle], void>("void nft_ctx_free(nft_ctx *ctx)");
  const bufferOutput = native<[NftHandle], number>("int nft_ctx_buffer_output(nft_ctx *ctx)");
  const bufferErrors = native<[NftHandle], number>("int nft_ctx_buffer_error(nft_ctx *ctx)");
  const run = native<[NftHandle, string], number>("int nft_run_cmd_from_buffer(nft_ctx *ctx, const char *script)");
  const output = native<[NftHandle], string | null>("const char *nft_ctx_get_output_buffer(nft_ctx *ctx)");
  const errors = native<[NftHandle], string | null>("const char *nft_ctx_get_error_buffer(nft_ctx *ctx)");
  const setFlags = native<[NftHandle, number], void>("void nft_ctx_output_set_flags(nft_ctx *ctx, uint32_t flags)");
  return {
    open() {
      const handle = create(0);
      bufferOutput(handle);
      bufferErrors(handle);
      return handle;
    },
    free,
    run,
    runAside: (handle, script) =>
      new Promise((resolve, reject) => {
        run.async(handle, script, (error, result) => (error ? reject(error) : resolve(result)));
      }),
    output: (handle) => output(handle) ?? "",
    errors: (handle) => errors(handle) ?? "",
    setOutput: (handle, output) => setFlags(handle, outputFlags[output]),
  };
}

function open(): LibraryHandle {
  try {
    return koffi.load("libnftables.so.1");
  } catch (error) {
    throw new EngineError("unavailable", `cannot load libnftables.so.1 (package libnftables1): ${messageOf(error)}`, {
      cause: error,
    });
  }
}
