#!/bin/bash
#PBS -v MODE=fast,LIST="a,b",HOME
#PBS -v "EXTRA='x,y'"
./run
