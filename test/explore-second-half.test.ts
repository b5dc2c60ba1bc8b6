import { exploreHalf } from "./explore/half.js";

exploreHalf(1);
