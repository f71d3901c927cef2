#!/bin/bash
#BSUB -env "LANG=C, PATH, GREETING='a, b'"
#BSUB -L /bin/bash
#BSUB -o o
./x
