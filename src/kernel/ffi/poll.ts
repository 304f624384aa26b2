import koffi from "koffi";

/**
 * Calls `onReadable` on a later tick whenever `fd` has something to read; the listener must read until there is nothing left.
 * Does not keep the process alive. Dispose it before closing the descriptor.
 */
export function watchReadable(fd: number, onReadable: () => void): Disposable {
  let scheduled = false;
  let closed = false;
  // Polling is level-triggered, and setImmediate runs before the next poll. It is also needed for itself: promises resolved
  // inside a native callback may stall until something else wakes the loop (seen on Node 26).
  const handle = koffi.node.poll(fd, { readable: true }, () => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      if (!closed) onReadable();
    });
  });
  handle.unref();
  return {
    [Symbol.dispose]() {
      if (closed) return;
      closed = true;
      handle.close();
    },
  };
}
