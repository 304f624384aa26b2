import { kernelContract } from "./contract.ts";
import { openFakeKernel } from "./fake.ts";

kernelContract("the fake kernel", async () => {
  const kernel = openFakeKernel();
  return {
    kernel,
    directory: "/run/wk",
    elements: async (ns, table, set) => kernel.elements(ns, table, set),
    sysctl: (ns, key) => kernel.sysctl(ns, key),
    addStrangersLink: (ns, name) => kernel.addStrangersLink(ns, name),
    restart: async () => kernel.restart(),
    close: async () => {},
  };
});
