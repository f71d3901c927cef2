#!/bin/bash
#BSUB -w done("prep*")&&ended(clean_up)
#BSUB -w "done(\"night run\") && !started(other_*)"
#BSUB -o o
./x
