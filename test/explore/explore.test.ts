import { exploreHalf } from "./half.js";

exploreHalf(0);
