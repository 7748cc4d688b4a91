// Express without sessions: the baseline that is subtracted from every other express row.
import { serve } from "./routes.mjs";

serve(undefined);
